"""The command line: one file per verb, help, the parser's errors, and what ``--ckpt_path`` turns into."""

from polyp_lightning.cli.verbs import main

__all__ = ["main"]
