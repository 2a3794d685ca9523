"""From a checkpoint to frames per second: ``export``, ``benchmark`` and ``stream``.

Knows nothing of training. What runs an exported model (:mod:`~polyp_lightning.deploy.runtime`,
:mod:`~polyp_lightning.deploy.stream`) needs neither Lightning nor PyTorch, so importing this package imports nothing.
"""
