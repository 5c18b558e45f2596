"""What the tests of training share: a tiny network, a few small videos, and moving clips."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gazepack.autogaze import AutoGazeConfig, CanvasNetwork, fresh_canvas_network
from gazepack.training.clips import Video
from gazepack.video import write_video
from gazepack.video.scenes import objects, pan


@pytest.fixture(scope="session")
def config(canvas_config: AutoGazeConfig) -> AutoGazeConfig:
    """A tiny network that decodes as the large ones do."""
    return canvas_config


@pytest.fixture
def network(config: AutoGazeConfig) -> CanvasNetwork:
    """A tiny network, untrained but with heads that have something to say."""
    network = fresh_canvas_network(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        network.gaze_decoder.lm_head.weight.normal_(0, 0.3, generator=generator)
        network.gaze_decoder.task_loss_prediction_head.weight.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Two videos of 24 small frames."""
    folder = tmp_path_factory.mktemp("videos")
    for name, scene in (("objects", objects), ("pan", pan)):
        write_video(folder / f"{name}.mp4", scene(96, 64, 24), fps=12)
    return [Video(uri=str(path)) for path in sorted(folder.iterdir())]


@pytest.fixture
def folder_of(videos: list[Video]) -> Path:
    """The folder of the videos."""
    return Path(videos[0].uri).parent


@pytest.fixture
def frames_BT3SS() -> torch.Tensor:
    """Two clips of three frames, uint8, 224 px: things that move over a wall, and noise at the end."""
    clips: list[list[npt.NDArray[np.uint8]]] = [
        list(objects(224, 224, 3, seed)) for seed in range(2)
    ]
    clips[1][2] = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return torch.from_numpy(np.asarray(clips)).permute(0, 1, 4, 2, 3).contiguous()
