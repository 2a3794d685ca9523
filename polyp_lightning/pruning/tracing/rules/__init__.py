"""What each operation does to channel labels; importing this package registers all rules."""

from polyp_lightning.pruning.tracing.rules import elementwise, layout, norms, products, reshaping, slicing, spatial

__all__ = ["elementwise", "layout", "norms", "products", "reshaping", "slicing", "spatial"]
