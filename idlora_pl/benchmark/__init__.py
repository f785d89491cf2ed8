"""What to make and to score: prompts, the items of a benchmark, its manifest and the layouts of the paper."""
