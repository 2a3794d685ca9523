"""The verb ``dashboard``."""

import argparse
import sys
from collections.abc import Sequence

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.tracking.dashboard import build_workspace, save, summarise, to_json
from polyp_lightning.tracking.logger import logged_in


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`."""
    options = _make_parser().parse_args(arguments[1:])
    board = build_workspace(options.entity, options.project)
    if options.dry_run:
        text = to_json(board) if options.json else summarise(options.entity, options.project)
        sys.stdout.write(f"{text}\n")
        return 0
    if options.json:
        msg = "--json prints what would be sent: give --dry_run too"
        raise ConfigError(msg)
    if not logged_in():
        msg = "dashboard needs a W&B account: run `wandb login` or set WANDB_API_KEY, or look at it with --dry_run"
        raise ConfigError(msg)
    print(save(board))
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dashboard", "Builds a W&B workspace: Dice against GMACs and ms by criterion, stages, widths, overlays, runs."
    )
    parser.add_argument("--entity", required=True, help="the W&B user or team that owns the project")
    parser.add_argument("--project", default="polyp_lightning", help="the W&B project (default: %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="say what would be built; needs no login")
    parser.add_argument("--json", action="store_true", help="with --dry_run: print what would be sent")
    return parser
