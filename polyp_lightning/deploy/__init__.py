"""From a checkpoint to frames per second: ``export``, ``benchmark``, ``predict`` and ``stream``.

Knows nothing of training. What runs an exported model needs neither Lightning nor, but for PyTorch's own formats,
PyTorch; importing this package therefore imports nothing.

- ``export``: writes a model, checked against the network, in one of the ``formats`` (one file each).
- ``rewriting``: the captured graph, made faster without changing its values.
- ``bundle``: an exported model with its sidecar, and how it is loaded into one of the ``runners``.
- ``benchmark``: times and peak memory of models, and the timers of latency budgets.
- ``predicting``: masks of images, and their ``contour``.
- ``video``: decoding, segmenting, drawing and saving.
"""
