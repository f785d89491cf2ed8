"""Splits that share nobody and nothing: leaks between them, and benchmarks of the last, for `data_tools.pair_clips`."""
