"""Data sets: where frames come from, how they are divided, cached and put into batches."""
