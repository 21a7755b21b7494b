"""One reader for each layout in which labelled faces are found on disk."""
