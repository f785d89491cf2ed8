"""ID-LoRA."""
