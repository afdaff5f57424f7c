"""Engines in a process of their own, so that calls and models do not share one interpreter."""
