"""The offline trainer: data, architectures, training, and export to a step graph.

May import torch, onnx and `serving`; `serving` never imports this package.
"""

import os

# GNU OpenMP, on which torch computes, lets a thread spin 300,000 times for the others. When another
# process has one of the cores that is most of all time: training was seen to fall from 60,000 characters
# a second to 1,300. With 1,000 it falls to 28,000, and loses 6 % where nobody else computes.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
