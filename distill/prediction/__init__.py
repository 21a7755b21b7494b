"""Exported students at work: faces in photos and films, without TensorFlow and without Keras."""
