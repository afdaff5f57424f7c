"""From a run to a published step graph: trace, check against PyTorch, publish."""
