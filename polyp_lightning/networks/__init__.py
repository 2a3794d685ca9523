"""Segmentation networks by name, their losses and what they cost."""
