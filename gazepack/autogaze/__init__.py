"""AutoGaze (CVPR 2026, arXiv 2603.12254): a network that chooses the patches worth reading."""

from gazepack.autogaze.canvas import CanvasNetwork, fresh_canvas_network
from gazepack.autogaze.config import AutoGazeConfig
from gazepack.autogaze.gaze import AutoGaze, Gaze, Stream, frame_budgets
from gazepack.autogaze.network import AutoGazeNetwork, fresh_network
from gazepack.autogaze.taking import FrameGaze
from gazepack.autogaze.weights import Checkpoint, load_checkpoint, save_checkpoint

__all__ = [
    "AutoGaze",
    "AutoGazeConfig",
    "AutoGazeNetwork",
    "CanvasNetwork",
    "Checkpoint",
    "FrameGaze",
    "Gaze",
    "Stream",
    "frame_budgets",
    "fresh_canvas_network",
    "fresh_network",
    "load_checkpoint",
    "save_checkpoint",
]
