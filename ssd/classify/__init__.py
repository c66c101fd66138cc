"""Classifiers: the network under the detector, trained or fine-tuned by itself on folders of pictures."""
