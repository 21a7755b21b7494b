"""A trained student becomes files for devices, each compared with the student that it was made of."""
