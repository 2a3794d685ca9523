"""Lightning callbacks: pruning while training, checkpoints of every stage, progress, tables and masks."""
