"""Who is paired with whom and in which split, for `data_tools.pair_clips` and what reads its list."""
