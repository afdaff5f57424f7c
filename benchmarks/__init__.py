"""Measurements, as ratios taken side by side in one run; the figures are in README.md."""
