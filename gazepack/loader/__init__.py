"""Reading a dataset into training: the batch plan, the dataset, its batches and its state."""

from gazepack.loader.batch import Batch, Normalise
from gazepack.loader.dataset import GazeDataset
from gazepack.loader.dials import Dials
from gazepack.loader.forecast import Forecast
from gazepack.loader.plan import BatchLimit, Plan, plan_steps
from gazepack.loader.shuffle import epoch_order

__all__ = [
    "Batch",
    "BatchLimit",
    "Dials",
    "Forecast",
    "GazeDataset",
    "Normalise",
    "Plan",
    "epoch_order",
    "plan_steps",
]
