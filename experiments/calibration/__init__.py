"""Which scores could be the columns of a published table, and how well each fits it on the same methods' clips."""
