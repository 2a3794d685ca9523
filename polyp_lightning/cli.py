"""The command line: ``python -m polyp_lightning VERB``."""

import sys
from collections.abc import Callable, Sequence
from errno import EACCES, EDQUOT, EEXIST, EFBIG, ENOSPC, ENOTDIR, EPERM, EROFS

from polyp_lightning.errors import PolypError
from polyp_lightning.short_help import ALL, VERBS, answered

USAGE = """\
usage: python -m polyp_lightning VERB [options]   (VERB --help for the options)

  fit        train, and prune while training
  validate   Dice and IoU on validation images  --ckpt_path FILE
  test       all metrics on the test images     --ckpt_path FILE
  predict    write masks as PNG                 --ckpt_path FILE
  prune      cut a trained network in one step  --ckpt_path FILE --target 0.25
  export     a model that runs on its own       --ckpt_path FILE --format onnx
  benchmark  measure frames per second          --model FILE
  stream     segment a video, camera or stream  --model FILE --source VIDEO
  study      run a list of trainings and tests  --config FILE.yaml
  report     one page about runs or a study     RUNS… -o report.html
  dashboard  build a W&B workspace              --entity E --project P
  data       fetch or verify a data set         fetch kvasir | verify kvasir
"""

# A disk that is full, read-only, over its quota, not ours, or a file where a folder should be.
_STORAGE = {ENOSPC, EROFS, EDQUOT, EFBIG, EACCES, EPERM, ENOTDIR, EEXIST}


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        args: the command line without the program's name; by default that of the process.

    Returns:
        The exit status: 0, 1 where a frame budget was missed, or 2 for a mistake that is explained on standard error.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if (page := answered(arguments)) is not None:
        sys.stdout.write(page)
        return 0
    if arguments[0] in VERBS:
        arguments = ["--help" if argument == ALL else argument for argument in arguments]
    try:
        return _runner(arguments[0])(arguments)
    except PolypError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        sys.stderr.write(
            f"error: nothing can be written: {error}. Files written before are whole. Free some space, or name another "
            "folder with --trainer.default_root_dir (the run), --data.cache_dir (decoded frames) or --masks.output\n"
        )
        return 2


def _runner(verb: str) -> Callable[[Sequence[str]], int]:
    """What runs a verb. Imported here: the trainer takes seconds, which ``stream`` and ``benchmark`` do not need."""
    from polyp_lightning.deploy import commands as deploy

    if verb in deploy.VERBS:
        return lambda arguments: deploy.main(list(arguments))
    if verb == "data":
        from polyp_lightning.data import commands as data

        return lambda arguments: data.main(list(arguments[1:]))
    if verb == "prune":
        from polyp_lightning import oneshot

        return lambda arguments: oneshot.main(arguments[1:])
    if verb == "report":
        from polyp_lightning.report import commands as report

        return lambda arguments: report.main(arguments[1:])
    if verb == "dashboard":
        from polyp_lightning.tracking import dashboard

        return lambda arguments: dashboard.main(arguments[1:])
    if verb == "study":
        from polyp_lightning.study import runner

        return lambda arguments: runner.main(arguments[1:])
    from polyp_lightning import training_cli

    return training_cli.run
