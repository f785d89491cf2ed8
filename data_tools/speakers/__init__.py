"""Whose voice and face a clip shows: embedded, remembered, grouped and checked for `data_tools.find_speakers`."""
