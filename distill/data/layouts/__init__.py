"""One reader for each layout in which labelled images are found on disk."""
