"""What a person sees of a run: W&B, the Dice-against-GMACs table and picture, the progress bar, the checkpoints."""

from polyp_lightning.callbacks.early_stopping import TailEarlyStopping as TailEarlyStopping
from polyp_lightning.callbacks.picture import pareto_csv as pareto_csv
from polyp_lightning.callbacks.picture import pareto_png as pareto_png
from polyp_lightning.callbacks.progress import ProgressBar as ProgressBar
from polyp_lightning.callbacks.score_writer import ScoreWriter as ScoreWriter
from polyp_lightning.callbacks.stage_checkpoints import StageCheckpoint as StageCheckpoint
from polyp_lightning.callbacks.summary import StageSummary as StageSummary
from polyp_lightning.callbacks.table import stage_table as stage_table
from polyp_lightning.tracking.logger import RunLogger as RunLogger
from polyp_lightning.tracking.tracker import RunTracker as RunTracker
