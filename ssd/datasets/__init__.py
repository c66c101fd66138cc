"""Labelled photos from disk, as lists of `Sample`: a room for each layout."""
