"""Faces in frames: detection with five landmarks, and the track of the largest face through a clip."""
