"""Recognisers: Whisper with its text normalisers, and a grammar of one corpus."""
