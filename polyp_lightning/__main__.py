"""``python -m polyp_lightning``."""

from polyp_lightning.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
