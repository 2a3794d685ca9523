"""What every exported model takes and returns, whatever its format."""

from typing import Any

INPUT, OUTPUT = "frame", "probability"
THRESHOLD = 0.5
"""A pixel is polyp where its probability exceeds this, as in :func:`polyp_lightning.metrics.binarise`."""


def describe_signature(image_size: int, dynamic_batch: bool) -> dict[str, Any]:
    """Returns the part of the sidecar that says how a model is fed and what comes out."""
    batch: int | str = "batch" if dynamic_batch else 1
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": [batch, image_size, image_size, 3],
            "colours": "RGB",
            "values": "0 to 255 as decoded; scale, mean and standard deviation are applied inside",
            "resize": "by the caller, to the square: area averaging where the frame shrinks, bilinear where it grows",
        },
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "layout": "NCHW",
            "shape": [batch, 1, image_size, image_size],
            "values": "probability of polyp, 0 to 1; the sigmoid is applied inside",
        },
        "threshold": THRESHOLD,
        "classes": ["polyp"],
        "image_size": image_size,
        "dynamic_batch": dynamic_batch,
    }
