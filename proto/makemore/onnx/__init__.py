"""The part of the ONNX file format that a step graph needs."""
