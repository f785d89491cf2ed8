"""Training pairs on disk and in batches: pairing rules, shards, the Lightning data module."""
