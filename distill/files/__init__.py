"""Files: written whole or not at all, told apart from what is busy or no file, and parsed once into checked types."""
