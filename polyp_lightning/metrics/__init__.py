"""How good a segmentation is: the definitions as pure functions, and as metrics that accumulate over images."""

from polyp_lightning.metrics.alarms import FalsePositiveFrameRate as FalsePositiveFrameRate
from polyp_lightning.metrics.alarms import FrameSensitivity as FrameSensitivity
from polyp_lightning.metrics.alarms import PolypSensitivity as PolypSensitivity
from polyp_lightning.metrics.alarms import alarm_metrics as alarm_metrics
from polyp_lightning.metrics.alarms import frame_scores as frame_scores
from polyp_lightning.metrics.functional import binarise as binarise
from polyp_lightning.metrics.functional import hd95 as hd95
from polyp_lightning.metrics.functional import per_image_dice as per_image_dice
from polyp_lightning.metrics.functional import per_image_iou as per_image_iou
from polyp_lightning.metrics.functional import pranet_dice as pranet_dice
from polyp_lightning.metrics.metrics import HD95 as HD95
from polyp_lightning.metrics.metrics import EMeasure as EMeasure
from polyp_lightning.metrics.metrics import EMeasureMax as EMeasureMax
from polyp_lightning.metrics.metrics import HD95LeftOut as HD95LeftOut
from polyp_lightning.metrics.metrics import MeanAbsoluteError as MeanAbsoluteError
from polyp_lightning.metrics.metrics import PerImageDice as PerImageDice
from polyp_lightning.metrics.metrics import PerImageIoU as PerImageIoU
from polyp_lightning.metrics.metrics import PraNetDice as PraNetDice
from polyp_lightning.metrics.metrics import Precision as Precision
from polyp_lightning.metrics.metrics import Recall as Recall
from polyp_lightning.metrics.metrics import StructureMeasure as StructureMeasure
from polyp_lightning.metrics.metrics import WeightedF as WeightedF
from polyp_lightning.metrics.metrics import evaluation_metrics as evaluation_metrics
from polyp_lightning.metrics.operating_point import area_under_roc as area_under_roc
from polyp_lightning.metrics.operating_point import choose_threshold as choose_threshold
from polyp_lightning.metrics.operating_point import roc as roc
