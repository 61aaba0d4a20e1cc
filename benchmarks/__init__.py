"""What charjax takes for a piece of work, as a ratio to what its peers take."""
