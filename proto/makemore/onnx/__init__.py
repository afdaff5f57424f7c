"""Messages of ONNX files."""
