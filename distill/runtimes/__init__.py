"""Networks that others made: Keras files, SavedModels, ONNX files and Python functions, all with one interface."""
