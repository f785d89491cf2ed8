"""A synthetic world of talkers in which identity, words, surroundings and lip movement are known exactly."""
