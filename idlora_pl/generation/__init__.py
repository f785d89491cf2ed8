"""From a prompt, a face and a voice to a clip: the only way to generate."""
