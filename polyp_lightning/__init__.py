"""Train a polyp segmentation network and remove its least important filters while it trains."""

__version__ = "0.1.0"
