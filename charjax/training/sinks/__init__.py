"""Where the records of a run go: the screen and TensorBoard."""
