"""What a training step and a guided step cost: rows that are data, and what was measured."""
