"""Where the records of a run go: the screen, TensorBoard and trackers."""
