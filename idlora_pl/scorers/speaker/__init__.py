"""Speaker networks: d-vectors, and WavLM with an ECAPA-TDNN head in two named scales."""
