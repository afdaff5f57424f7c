"""What makes strings out of a step graph: sessions, rows, their contexts, whose turn it is."""
