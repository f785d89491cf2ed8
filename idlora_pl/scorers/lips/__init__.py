"""Lip-sync of real clips: SyncNet, active speaker detection, and mouth landmarks against the sound."""
