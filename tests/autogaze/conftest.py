"""Recorded outputs of the published code, and networks to gaze with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from gazepack.autogaze import (
    AutoGaze,
    AutoGazeConfig,
    AutoGazeNetwork,
    CanvasNetwork,
    fresh_canvas_network,
    fresh_network,
)
from gazepack.autogaze.weights import load_checkpoint
from gazepack.geometry import TILE_TOKENS

TINY = Path(__file__).parent.parent / "data" / "autogaze-tiny"
NOT_ROWS = {"streaming", "forward", "patch14_392_stitched"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One recorded run: rows that were each run alone."""

    pixels_BT3SS: Tensor
    gazing_ratio: float | list[float]
    loss_threshold: float | None
    ids: list[npt.NDArray[np.int32]]
    num_each_frame: list[npt.NDArray[np.int32]]


class Recording:
    """A fixture folder: weights, inputs and what the published code made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = json.loads((folder / "cases.json").read_text())
        with np.load(folder / "expected.npz") as arrays:
            self.expected = dict(arrays)
        self.network: AutoGazeNetwork = load_checkpoint(folder).network
        self.model = AutoGaze.from_pretrained(folder)

    def clips(self) -> Tensor:
        """Return three clips of one 224-px tile, uint8 3 x 16 x 3 x 224 x 224."""
        return torch.from_numpy(self.expected["video_224"]).movedim(-1, 2)

    def tiles(self) -> Tensor:
        """Return the 2 x 2 tiles of 196 px of the 392-px clip, row-major."""
        clip = torch.from_numpy(self.expected["video_392"])[0].movedim(-1, 1)
        return torch.stack(
            [clip[..., r : r + 196, c : c + 196] for r in (0, 196) for c in (0, 196)]
        )

    def case(self, name: str) -> Case:
        settings = self.cases[name]
        num_rows = sum(key.startswith(f"{name}/") and key.endswith("/ids") for key in self.expected)
        pixels = self.tiles() if settings["input"] == "video_392" else self.clips()
        return Case(
            pixels_BT3SS=pixels[:num_rows],
            gazing_ratio=settings.get("gazing_ratio", 1.0),
            loss_threshold=settings.get("task_loss_requirement"),
            ids=[self.expected[f"{name}/{row}/ids"] for row in range(num_rows)],
            num_each_frame=[
                self.expected[f"{name}/{row}/num_each_frame"] for row in range(num_rows)
            ],
        )

    def forward_ids(self) -> Tensor:
        """Return the gaze of the teacher-forced case, int64 B x T x N tile ids."""
        ids = self.expected["forward/gazing_pos"].reshape(2, 16, -1)
        return torch.from_numpy(ids - TILE_TOKENS * np.arange(16)[:, None]).long()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `case_name` on every recorded case; both folders hold the same names."""
    if "case_name" in metafunc.fixturenames:
        names = json.loads((TINY / "cases.json").read_text()).keys() - NOT_ROWS
        metafunc.parametrize("case_name", sorted(names))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another make these tests many times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Recording:
    return Recording(TINY)


@pytest.fixture(scope="session")
def full(shared: Path) -> Recording:
    return Recording(shared / "fixtures" / "autogaze-full")


@pytest.fixture(scope="session")
def tiny_config(tiny: Recording) -> AutoGazeConfig:
    """The small shape, decoded as models trained here are."""
    return tiny.network.config.model_copy(
        update={"decode_positions": "contiguous", "loss_unit": "negative_psnr"}
    )


@pytest.fixture(scope="session")
def tiny_network(tiny_config: AutoGazeConfig) -> AutoGazeNetwork:
    return fresh_network(tiny_config, seed=3)


@pytest.fixture(scope="session")
def canvas_network(canvas_config: AutoGazeConfig) -> CanvasNetwork:
    """An untrained network whose heads have something to say, so that all of it shows in the choices."""
    network = fresh_canvas_network(canvas_config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        network.gaze_decoder.lm_head.weight.normal_(0, 0.3, generator=generator)
        network.gaze_decoder.task_loss_prediction_head.weight.normal_(0, 0.3, generator=generator)
        network.open_weight.copy_(torch.tensor([0.8, 0.9, 1.0, 1.1]))
        network.loss_bias.normal_(0, 0.3, generator=generator)
    return network.requires_grad_(False)


@pytest.fixture(scope="session")
def canvas_model(canvas_network: CanvasNetwork) -> AutoGaze:
    return AutoGaze(canvas_network)
