"""How the instruments of the nano world are made and checked."""
