"""Scorers with names: networks with their weights, and the public value that proves each of them."""
