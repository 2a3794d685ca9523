"""The verb ``dashboard``."""

import argparse
import sys
from collections.abc import Sequence

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.tracking.dashboard import build_workspace, save, to_json
from polyp_lightning.tracking.logger import logged_in


def main(args: Sequence[str]) -> int:
    """Runs the verb.

    Args:
        args: the verb and its options.

    Returns:
        0.

    Raises:
        ConfigError: the package is missing, nobody is logged in, or W&B can't be reached.
    """
    options = _parser().parse_args(args[1:])
    workspace = build_workspace(options.entity, options.project)
    if options.dry_run:
        sys.stdout.write(to_json(workspace) + "\n")
        return 0
    if not logged_in():
        msg = "dashboard needs a W&B account: run `wandb login` or set WANDB_API_KEY, or look at it with --dry_run"
        raise ConfigError(msg)
    print(save(workspace))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dashboard", "Builds a W&B workspace: Dice against GMACs and ms by criterion, stages, widths, overlays, runs."
    )
    parser.add_argument("--entity", required=True, help="the W&B user or team that owns the project")
    parser.add_argument("--project", default="polyp_lightning", help="the W&B project (default: %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="print what would be sent, as JSON; needs no login")
    return parser
