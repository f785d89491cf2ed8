"""Tools that turn videos into shard sets; `python -m data_tools.<verb> --help` explains each.

cut_clips -> pair_clips -> encode_clips -> write_shards -> inspect_shard
"""
