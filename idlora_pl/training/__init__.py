"""The Lightning module, its settings and callbacks."""
