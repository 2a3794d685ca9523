"""Studies: what is claimed about pruning, measured."""
