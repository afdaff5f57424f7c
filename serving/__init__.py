"""The model server: step graphs in onnxruntime, sampled in batches, asked over gRPC.

Importing this package imports nothing else. It never imports torch or `trainer`.
"""
