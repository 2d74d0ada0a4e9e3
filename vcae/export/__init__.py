"""Export to ONNX graphs, and an example script that runs them without torch."""
