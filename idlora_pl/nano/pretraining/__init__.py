"""How the assets of the nano world were made: the codecs and the base model, and the instruments that measure it."""
