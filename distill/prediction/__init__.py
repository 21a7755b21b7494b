"""Exported students at work: faces in photos and videos, without TensorFlow and without Keras."""
