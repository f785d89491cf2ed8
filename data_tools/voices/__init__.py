"""Recorded voices: how loud, how far above their noise, and cleaned of it, for `data_tools.clean_reference`."""
