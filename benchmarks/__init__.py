"""Times and memory of charjax, compared with those of its peers."""
