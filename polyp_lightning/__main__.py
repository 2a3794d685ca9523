"""``python -m polyp_lightning``."""

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb; see :func:`polyp_lightning.cli.main`.

    The verbs that deploy are taken here already: importing the trainer would cost them several seconds.
    """
    from polyp_lightning.deploy import commands

    arguments = list(sys.argv[1:] if args is None else args)
    if arguments and arguments[0] in commands.VERBS:
        return commands.main(arguments)
    from polyp_lightning.cli import main as run

    return run(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
