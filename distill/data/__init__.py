"""Labelled images: the `Dataset`, a reader for each layout on disk, and the views drawn of an image."""
