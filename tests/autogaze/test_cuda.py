"""Gazing on a GPU that is pretended (`pretend_cuda`): recorded, replayed, and beside what the CPU finds."""

import gc
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pretend_cuda import PretendedCuda
from torch import Tensor

from gazepack.autogaze import AutoGaze, Gaze
from gazepack.autogaze.canvas_engine import CanvasEngine
from gazepack.autogaze.devices import find_device
from gazepack.autogaze.engine import Engine
from gazepack.errors import UsageError
from gazepack.video.scenes import objects, pan

TOLERANCE = 1e-4  # float32 sums in another order


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """Three clips of two frames, uint8 3 x 2 x 3 x 224 x 224."""
    made = [list(scene(224, 224, 2, seed)) for seed, scene in ((3, objects), (3, pan), (4, pan))]
    return torch.from_numpy(np.asarray(made)).movedim(-1, 2).contiguous()


@pytest.fixture(params=["published", "tokens", "canvas"])
def network(request: pytest.FixtureRequest) -> Any:
    """A network of each kind."""
    if request.param == "published":
        return request.getfixturevalue("tiny").network
    name = {"tokens": "tiny_network", "canvas": "canvas_network"}[request.param]
    return request.getfixturevalue(name)


def assert_alike(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """Compare gazes: ids are equal and losses close."""
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.loss, b.loss, atol=TOLERANCE)


def between(gazes: Sequence[Gaze]) -> float:
    """Return a threshold that half of the losses are above, clear of each."""
    losses = np.sort(np.concatenate([gaze.loss for gaze in gazes]))
    middle = slice(len(losses) // 3, 2 * len(losses) // 3)
    widest = np.argmax(np.diff(losses[middle])) + middle.start
    return float(losses[widest : widest + 2].mean())


def test_every_use_of_a_group_finds_what_the_cpu_finds(
    network: Any, clips: Tensor, cuda: PretendedCuda
) -> None:
    """Done, recorded, replayed: other pixels, budgets and thresholds each time, and groups of two sizes."""
    host, device = AutoGaze(network), AutoGaze(network, device="cuda")
    free = host.gaze(clips, gazing_ratio=(0.06, 0.02))
    assert_alike(device.gaze(clips, gazing_ratio=(0.06, 0.02)), free)
    assert_alike(device.gaze(clips.flip(0), gazing_ratio=(0.06, 0.02)), free[::-1])
    settings: dict[str, Any] = {"gazing_ratio": (0.02, 0.08), "loss_threshold": between(free)}
    expected = host.gaze(clips, **settings)
    for order in ([0, 1, 2], [2, 0, 1], [2]):
        found = device.gaze(clips[order].to("cuda"), **settings)
        assert_alike(found, [expected[row] for row in order])
    del device, host
    gc.collect()
    assert cuda.allocated == 0


@pytest.mark.usefixtures("cuda")
def test_what_was_recorded_is_forgotten_when_memory_moves(network: Any, clips: Tensor) -> None:
    """A larger ratio makes the cache grow; gazing goes on, recorded anew."""
    host, device = AutoGaze(network), AutoGaze(network, device="cuda")
    for ratio in (0.02, 0.02, 0.3, 0.02):
        expected = host.gaze(clips[:1], gazing_ratio=ratio)
        assert_alike(device.gaze(clips[:1], gazing_ratio=ratio), expected)


@pytest.mark.parametrize(("threshold", "asks"), [(None, 0), (-1e9, 1)])
def test_a_frame_asks_at_its_end_and_every_fourth_step(
    tiny_network: Any, canvas_network: Any, clips: Tensor, threshold: float | None, asks: int
) -> None:
    """A frame's answer in four parts (three with a canvas), whatever the budget; one more in four steps."""
    frames, grey = clips[:1, 0], torch.full_like(clips[:1, 0], 128)
    for steps in (1, 5):
        asked = asks * ((steps - 1) // 4)
        with PretendedCuda() as cuda:
            model = AutoGaze(tiny_network, device="cuda")
            there = clips[:1].to("cuda")
            budget = steps * model.config.decoder.num_multi_token_pred
            for _ in range(1 if steps == 1 else 3):
                cuda.questions = cuda.uploads = 0
                model.gaze(there, gazing_ratio=budget / 265 + 1e-4, loss_threshold=threshold)
            assert cuda.questions == 2 * (4 + asked)
            assert cuda.uploads == 1 + 2 * 3
            looking = AutoGaze(canvas_network, device="cuda")
            budget = steps * looking.config.decoder.num_multi_token_pred
            for _ in range(1 if steps == 1 else 3):
                cuda.questions = cuda.uploads = 0
                looking.look(frames, grey, budgets=[budget], loss_threshold=threshold)
            assert cuda.questions == 3 + asked
            assert cuda.uploads == 3


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["tiny_network", "canvas_network"])
def test_a_stream_is_the_clip(name: str, clips: Tensor, request: pytest.FixtureRequest) -> None:
    """Frame by frame, ids are those of the CPU's whole clip."""
    network = request.getfixturevalue(name)
    (expected,) = AutoGaze(network).gaze(clips[:1], gazing_ratio=0.1)
    stream = AutoGaze(network, device="cuda").stream()
    parts = [stream.push(frame, gazing_ratio=0.1) for frame in clips[0].split(1)]
    assert np.concatenate([part.ids for part in parts]).tolist() == expected.ids.tolist()


@pytest.mark.usefixtures("cuda")
def test_bfloat16(canvas_network: Any, clips: Tensor) -> None:
    """Half precision is recorded and replayed alike, and its first losses are within a dB of float32's."""
    expected = AutoGaze(canvas_network).gaze(clips[:2], gazing_ratio=0.05)
    half = AutoGaze(canvas_network, device="cuda", dtype=torch.bfloat16)
    first, *again = (half.gaze(clips[:2], gazing_ratio=0.05) for _ in range(3))
    for found in again:
        for a, b in zip(first, found, strict=True):
            assert (a.ids.tolist(), a.loss.tolist()) == (b.ids.tolist(), b.loss.tolist())
    for a, b in zip(first, expected, strict=True):
        assert a.loss[0] == pytest.approx(b.loss[0], abs=1)


def test_another_device_than_the_current_one(canvas_network: Any, clips: Tensor) -> None:
    """On `cuda:1` the work is recorded in a stream of `cuda:1`, and replays see the next clips."""
    expected = AutoGaze(canvas_network).gaze(clips, gazing_ratio=0.05)
    with PretendedCuda(number=1):
        model = AutoGaze(canvas_network, device="cuda:1")
        for row in range(3):
            assert_alike(
                model.gaze(clips[row : row + 1], gazing_ratio=0.05), expected[row : row + 1]
            )


@pytest.mark.usefixtures("cuda")
def test_threads_take_turns(canvas_network: Any, clips: Tensor) -> None:
    """Two threads that gaze with one model do not share its groups."""
    host, device = AutoGaze(canvas_network), AutoGaze(canvas_network, device="cuda")
    expected = host.gaze(clips, gazing_ratio=0.05)
    found: dict[int, list[Gaze]] = {}

    def gaze(row: int) -> None:
        for _ in range(3):
            found[row] = device.gaze(clips[row : row + 1], gazing_ratio=0.05)

    threads = [threading.Thread(target=gaze, args=(row,)) for row in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in (0, 1):
        assert_alike(found[row], expected[row : row + 1])


def test_running_out_of_memory(canvas_network: Any, clips: Tensor) -> None:
    """Groups are halved until they fit, recorded and replayed at that size, and nothing is lost."""
    network = canvas_network
    expected = AutoGaze(network).gaze(clips, gazing_ratio=0.05)
    with PretendedCuda() as cuda:
        model = AutoGaze(network, device="cuda", memory_bytes=2**40)
        model.gaze(clips[:1], gazing_ratio=0.05)
        cuda.memory_bytes = 2 * cuda.reserved
        with pytest.warns(
            RuntimeWarning, match=r"ran out of memory with . tiles at once; going on"
        ):
            found = [model.gaze(clips, gazing_ratio=0.05) for _ in range(3)]
        for gazes in found:
            assert_alike(gazes, expected)
        cuda.memory_bytes = cuda.allocated
        with pytest.raises(UsageError, match="at one tile"):
            model.gaze(clips[:1], gazing_ratio=1.0)


def test_half_of_what_is_free_includes_what_pytorch_keeps(canvas_network: Any) -> None:
    """Memory that was used before and is kept for what comes counts as free."""
    with PretendedCuda(memory_bytes=2**26) as cuda:
        torch.zeros(2**25, dtype=torch.uint8, device="cuda")
        assert cuda.allocated == 0
        assert torch.cuda.mem_get_info()[0] == 2**25
        assert AutoGaze(canvas_network, device="cuda")._memory.num_bytes == 2**25


@pytest.mark.usefixtures("cuda")
def test_engines_of_a_group_that_the_caller_keeps(tiny_network: Any, canvas_network: Any) -> None:
    """Without graphs an engine works as with them."""
    device = torch.device("cuda")
    engine = Engine(tiny_network, device=device, dtype=torch.float32, graphs=False)
    group = engine.start(1, room=1)
    group.recorder.warm()
    frame = torch.zeros(1, 3, 224, 224, device="cuda")
    (first,) = engine.frame(group, frame, budgets=[12], loss_threshold=None)
    looking = CanvasEngine(canvas_network, device=device, dtype=torch.float32, graphs=False)
    pixels = torch.zeros(1, 3, 224, 224, dtype=torch.uint8, device="cuda")
    (second,) = looking.look(pixels, pixels, budgets=[12], loss_threshold=None)
    assert (len(first.ids), len(second.ids)) == (12, 12)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["cuda:1", "cuda:9", "tpu"])
def test_devices_that_are_not_there(name: str) -> None:
    """One is there."""
    assert find_device("cuda").type == "cuda"
    with pytest.raises(UsageError, match=r"is not there|unknown device"):
        find_device(name)
