"""Experiments: what was trained, sampled, scored and simulated here, and how to do it again."""
