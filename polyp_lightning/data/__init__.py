"""Data sets: where images come from, how they are divided, cached and put into batches.

An image goes through ``sources`` (pairs of files, see ``listing``), ``reading`` (decoding, see ``opening`` and
``masks``), ``cache`` (at the network's resolution), ``augmentation``, ``loading`` (batches) and ``datamodule``
(loaders) to ``training.module`` and ``callbacks.mask_writer``.
"""
