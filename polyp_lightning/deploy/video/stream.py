"""``stream``: segments a video as it comes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import cv2
import numpy as np

from polyp_lightning.common.errors import ConfigError, DataError, hide_passwords
from polyp_lightning.deploy.bundle import load_model, read_bundle
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.video.alarm import Alarms, LastingAlarm
from polyp_lightning.deploy.video.decoding import Source, open_source
from polyp_lightning.deploy.video.opening import local_path
from polyp_lightning.deploy.video.pipeline import Pipeline, StreamOptions, StreamReport
from polyp_lightning.deploy.video.results import Recorder
from polyp_lightning.deploy.video.saving import VideoWriter, check_output


def stream(options: StreamOptions, say: Callable[[str], None] = print) -> StreamReport:
    """Runs a model over a source until it ends, or ``q`` is pressed in the window, or the process is interrupted.

    A network of the package is exported at its first use, once options and outputs have been looked at.

    Raises:
        ConfigError: the model can't be run, or the video or window can't be opened.
        DataError: the source can't be opened, or no frame of it could be decoded.
    """
    if not 0 <= options.smooth < 1:
        msg = f"--smooth {options.smooth} is the weight of the past, in [0, 1)"
        raise ConfigError(msg)
    # Before anything is opened: the rule may be refused.
    report = StreamReport(Alarms(LastingAlarm(options.alarm_frames, options.alarm_window)))
    if options.min_area < 0:
        msg = f"--min_area {options.min_area} is a number of pixels: at least 0"
        raise ConfigError(msg)
    if options.show:
        check_window()
    _check_output(options)
    recorder = Recorder(options.results, options.masks, options.overwrite, say)
    bundle = read_bundle(export_once(options.model, [options.backend] if options.backend else [], say))
    if options.threshold is not None:
        bundle = bundle.with_threshold(options.threshold)
    runner = load_model(bundle, options.backend or bundle.format.backends[0], options.threads)
    size = bundle.image_size
    # The first call plans memory and compiles kernels.
    runner(np.zeros((1, size, size, 3), np.uint8))
    cv2.setNumThreads(1)
    source = open_source(options.source, 1, options.live, say)
    with _open_writer(options, source) as writer, recorder:
        if writer is not None:
            _report_leftovers(writer, say)
        try:
            Pipeline(source, runner, bundle, options, writer, recorder).run(report)
        except KeyboardInterrupt:
            say("interrupted: what was segmented so far is kept")
    if not report.frames:
        reason = "; ".join([f"{report.broken} broken", *report.notes])
        msg = f"no frame of --source {hide_passwords(options.source)} could be decoded ({reason})"
        raise DataError(msg)
    say(str(report))
    if writer is not None:
        report.encoder = writer.encoder
        say(f"saved {options.output} ({writer.encoder}, {float(source.rate):g} frames per second)")
    for what in filter(None, (options.results, options.masks)):
        say(f"wrote {what}")
    return report


def _check_output(options: StreamOptions) -> None:
    """Refuses to save onto another file, or onto the source, by whatever name or link: the recording would be gone."""
    output = options.output
    if output is None:
        return
    source = local_path(options.source)
    if source and source.exists() and output.exists() and output.samefile(source):
        msg = f"--output {output} is the --source itself, which would be lost; name another file"
        raise ConfigError(msg)
    check_output(output, options.overwrite)


def check_window() -> None:
    """Checks that OpenCV can open a window; the error holds the command that installs one that can."""
    gui = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    if gui and gui[0].split(":")[1].strip() != "NONE":
        return
    msg = (
        "--show needs an OpenCV with windows, and this one is headless: "
        "pip uninstall opencv-python-headless && pip install opencv-python. Without --show, use --output FILE.mp4"
    )
    raise ConfigError(msg)


def _open_writer(options: StreamOptions, source: Source) -> AbstractContextManager[VideoWriter | None]:
    try:
        return VideoWriter(options.output, source.rate, options.overwrite) if options.output else nullcontext()
    except ConfigError:
        source.close()
        raise


def _report_leftovers(writer: VideoWriter, say: Callable[[str], None]) -> None:
    for path in writer.clear_leftovers():
        fate = "it plays to where it ends" if path.exists() else "nothing could play it, and it is removed"
        say(f"{path} is of an earlier stream that was killed: {fate}")
