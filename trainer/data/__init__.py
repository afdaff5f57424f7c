"""From a text file to tensors: lines, the split, batches."""
