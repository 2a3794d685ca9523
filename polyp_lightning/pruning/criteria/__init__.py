"""Importance criteria: one file each."""

from polyp_lightning.pruning.criteria.taylor import TaylorFO

__all__ = ["TaylorFO"]
