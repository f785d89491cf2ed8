"""Score clips against the items of a benchmark: for callbacks, folders, floors and ceilings alike."""
