"""Tools that turn videos into shard sets; `python -m data_tools.<verb> --help` explains each.

prepare: cut_clips -> find_speakers -> clean_reference -> caption_clips -> pair_clips -> encode_clips -> write_shards
inspect_shard shows what is in them.
"""
