"""Networks that map sounds and their descriptions to one space."""
