"""A report on runs and studies: one HTML page that needs nothing else, and the same as Markdown."""
