"""What a person sees of a run: W&B, the Dice-against-GMACs table and picture, the progress bar, the checkpoints."""

from polyp_lightning.tracking.checkpoints import StageCheckpoint
from polyp_lightning.tracking.logger import RunLogger
from polyp_lightning.tracking.picture import pareto_csv, pareto_png
from polyp_lightning.tracking.progress import ProgressBar
from polyp_lightning.tracking.scores import ScoreWriter
from polyp_lightning.tracking.stopping import TailEarlyStopping
from polyp_lightning.tracking.summary import StageSummary
from polyp_lightning.tracking.table import stage_table
from polyp_lightning.tracking.tracker import RunTracker

__all__ = [
    "ProgressBar",
    "RunLogger",
    "RunTracker",
    "ScoreWriter",
    "StageCheckpoint",
    "StageSummary",
    "TailEarlyStopping",
    "pareto_csv",
    "pareto_png",
    "stage_table",
]
