"""The offline trainer: data, architectures, training, evaluation and export to step graphs.

It may import torch, onnx and `serving`; nothing in `serving` imports it.
"""
