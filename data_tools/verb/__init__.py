"""What every verb shares: its command line, its lists, its ledger and its worker processes."""
