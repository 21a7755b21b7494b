"""Networks that others made: Keras files, SavedModels, ONNX files and Python functions, all asked in one way."""
