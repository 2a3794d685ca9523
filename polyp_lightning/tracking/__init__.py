"""What a person sees of a run: W&B, the Dice-against-GMACs table and picture, the progress bar, the checkpoints."""

from polyp_lightning.callbacks.early_stopping import TailEarlyStopping
from polyp_lightning.callbacks.picture import pareto_csv, pareto_png
from polyp_lightning.callbacks.progress import ProgressBar
from polyp_lightning.callbacks.score_writer import ScoreWriter
from polyp_lightning.callbacks.stage_checkpoints import StageCheckpoint
from polyp_lightning.callbacks.summary import StageSummary
from polyp_lightning.callbacks.table import stage_table
from polyp_lightning.tracking.logger import RunLogger
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
