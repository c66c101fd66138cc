"""Scores of detections against truth; plain NumPy."""
