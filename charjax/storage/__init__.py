"""Files on disk: written whole or not at all, locks, and the user's cache folder."""
