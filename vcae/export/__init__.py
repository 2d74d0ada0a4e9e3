"""ONNX graphs and an example that runs them without torch."""
