import hashlib

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, AutoGazeConfig, frame_budgets, fresh_network
from gazepack.autogaze.pixels import normalise
from gazepack.autogaze.reference import score
from gazepack.errors import UsageError


def assert_rows(gazes, case):
    for gaze, ids, num_each_frame in zip(gazes, case.ids, case.num_each_frame, strict=True):
        np.testing.assert_array_equal(gaze.num_each_frame, num_each_frame)
        np.testing.assert_array_equal(gaze.ids, ids)
        assert gaze.loss.shape == gaze.ids.shape


def as_bytes(gaze):
    return gaze.ids.tobytes(), gaze.num_each_frame.tobytes(), gaze.loss.tobytes()


@pytest.fixture(scope="module")
def full_size():
    """An untrained model of the published size."""
    return AutoGaze(fresh_network(AutoGazeConfig(), seed=0))


@pytest.fixture(scope="module")
def noise():
    """Eight clips of two frames."""
    values = np.random.default_rng(0).integers(0, 256, (8, 2, 3, 224, 224), dtype=np.uint8)
    return torch.from_numpy(values)


@pytest.fixture(scope="module")
def alone(full_size, noise):
    """What each of the eight clips gives in a batch of one."""
    return [as_bytes(full_size.gaze(row[None], gazing_ratio=0.1)[0]) for row in noise]


def test_small_weights_reproduce_the_published_code(tiny, case_name):
    """Rows given together come out as the published code gives each alone."""
    case = tiny.case(case_name)
    gazes = tiny.model.gaze(
        case.pixels_BT3SS, gazing_ratio=case.gazing_ratio, loss_threshold=case.loss_threshold
    )
    assert_rows(gazes, case)


@pytest.mark.slow
def test_full_weights_reproduce_the_published_code(full, case_name):
    """The same with weights of the published size."""
    case = full.case(case_name)
    gazes = full.model.gaze(
        case.pixels_BT3SS, gazing_ratio=case.gazing_ratio, loss_threshold=case.loss_threshold
    )
    assert_rows(gazes, case)


def test_the_recorded_stream_is_reproduced(tiny):
    """Frame by frame gives the ids of the published code's streaming."""
    stream = tiny.model.stream()
    gazes = [stream.push(frame[None], gazing_ratio=0.1) for frame in tiny.clips()[0]]
    in_frame = np.concatenate([gaze.ids % 265 for gaze in gazes])
    np.testing.assert_array_equal(in_frame, tiny.expected["streaming/gazing_pos_in_frame"] % 265)
    num_each_frame = np.concatenate([gaze.num_each_frame for gaze in gazes])
    np.testing.assert_array_equal(num_each_frame, tiny.expected["streaming/num_gazing_each_frame"])


def test_a_stream_equals_the_whole_clip_to_the_bit(tiny):
    """However frames are cut into calls, ids and losses are those of the clip at once."""
    pixels = tiny.clips()[1:2]
    settings = {"gazing_ratio": 0.5, "loss_threshold": -0.816}
    (whole,) = tiny.model.gaze(pixels, **settings)
    for cuts in ([16], [1] * 16, [3, 1, 12]):
        stream = tiny.model.stream()
        parts = [stream.push(part, **settings) for part in pixels[0].split(cuts)]
        for name in ("ids", "num_each_frame", "loss"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert joined.tobytes() == getattr(whole, name).tobytes()


@pytest.mark.parametrize("batch_size", [2, 3, 5, 8])
def test_a_row_is_the_same_to_the_bit_in_every_batch(full_size, noise, alone, batch_size):
    """Neighbours, their number and order change neither ids nor losses."""
    order = np.random.default_rng(batch_size).permutation(8)[:batch_size]
    together = full_size.gaze(noise[torch.from_numpy(order)], gazing_ratio=0.1)
    assert [as_bytes(gaze) for gaze in together] == [alone[row] for row in order]


def test_a_row_is_the_same_to_the_bit_on_any_number_of_threads(full_size, noise):
    """Two threads a row, one, or one for two rows: ids and losses are the same, and the setting stays."""
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2, 4):
            torch.set_num_threads(num_threads)
            results.append([as_bytes(g) for g in full_size.gaze(noise[:2], gazing_ratio=0.1)])
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_a_clip_is_the_same_to_the_bit_on_one_thread_and_on_two(tiny):
    """A whole clip by itself, in which every kind of work is divided at last, as a stream too."""
    pixels = tiny.clips()[:1]
    settings = {"gazing_ratio": 0.2, "loss_threshold": -0.816}
    alone = as_bytes(tiny.model.gaze(pixels, **settings)[0])
    torch.set_num_threads(2)
    assert as_bytes(tiny.model.gaze(pixels, **settings)[0]) == alone
    assert as_bytes(tiny.model.stream().push(pixels[0], **settings)) == alone


def test_the_memory_layout_of_pixels_does_not_matter(full_size, noise):
    """Channels last or first, a view or a copy: the same bits."""
    channels_last = noise[:1].movedim(2, -1).contiguous().movedim(-1, 2)
    assert channels_last.stride() != noise[:1].stride()
    first, last = (full_size.gaze(x, gazing_ratio=0.1)[0] for x in (noise[:1], channels_last))
    assert as_bytes(first) == as_bytes(last)


@pytest.mark.parametrize("recorded", ["threshold_0", "patch14_392"])
def test_rows_in_groups_of_an_accelerator_give_the_recorded_ids(tiny, recorded, monkeypatch):
    """Groups filled up, used again and sized by memory: the ids of the published code (here on the CPU)."""
    case = tiny.case(recorded)
    model = AutoGaze(tiny.network, memory_bytes=0)
    monkeypatch.setattr(type(model._engine), "is_accelerator", True)
    order = [row % len(case.ids) for row in range(3)]
    settings = {"gazing_ratio": case.gazing_ratio, "loss_threshold": case.loss_threshold}
    one_by_one = model.gaze(case.pixels_BT3SS[order], **settings)
    model._memory.num_bytes = 2**40
    together = model.gaze(case.pixels_BT3SS[order], **settings)
    assert [rows for rows, _ in model._groups] == [1, 4]
    for gazes in (one_by_one, together):
        for gaze, row in zip(gazes, order, strict=True):
            np.testing.assert_array_equal(gaze.ids, case.ids[row])


@pytest.mark.parametrize("recording", ["tiny", pytest.param("full", marks=pytest.mark.slow)])
def test_the_device_loop_reproduces_the_published_code(request, recording, case_name, monkeypatch):
    """Every recorded case of both sizes, its rows in one group, each at its own pace, as on an accelerator."""
    recorded = request.getfixturevalue(recording)
    case = recorded.case(case_name)
    model = AutoGaze(recorded.network, memory_bytes=2**40)
    monkeypatch.setattr(type(model._engine), "is_accelerator", True)
    gazes = model.gaze(
        case.pixels_BT3SS, gazing_ratio=case.gazing_ratio, loss_threshold=case.loss_threshold
    )
    assert_rows(gazes, case)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_recorded_ids(tiny, case_name):
    """Done, recorded and replayed: the ids of the published code, in float32."""
    case = tiny.case(case_name)
    model = AutoGaze(tiny.network, device="cuda")
    settings = {"gazing_ratio": case.gazing_ratio, "loss_threshold": case.loss_threshold}
    for _ in range(3):
        assert_rows(model.gaze(case.pixels_BT3SS, **settings), case)


def test_losses_are_those_of_the_network(tiny_network, tiny):
    """At contiguous positions the losses stored are what the teacher-forced network predicts."""
    model = AutoGaze(tiny_network)
    pixels = tiny.clips()[:2, :4]
    gazes = model.gaze(pixels, gazing_ratio=0.1)
    ids = torch.stack([torch.from_numpy(g.ids.reshape(4, 26) % 265).long() for g in gazes])
    with torch.no_grad():
        forced = score(tiny_network, normalise(pixels), ids)
    losses = np.stack([gaze.loss.reshape(4, 26) for gaze in gazes])
    np.testing.assert_allclose(losses, forced.loss_before.numpy(), atol=1e-4)
    in_order = forced.logits.scatter(-1, torch.full_like(ids, 265)[..., None], -torch.inf)
    assert torch.equal(in_order.argmax(-1)[..., 0], ids[..., 0])


def test_no_clips_give_no_gazes(tiny):
    """An empty batch is no error."""
    assert tiny.model.gaze(tiny.clips()[:0]) == []


def test_pixels_that_are_not_bytes_are_refused(tiny):
    """Floats would be preprocessed twice."""
    with pytest.raises(UsageError, match=r"pixels are torch\.float32; give uint8"):
        tiny.model.gaze(tiny.clips()[:1].float())


@pytest.mark.parametrize("shape", [(1, 0, 3, 224, 224), (1, 2, 4, 224, 224), (1, 2, 3, 224, 196)])
def test_pixels_of_another_shape_are_refused(tiny, shape):
    """No frames, four channels and oblong tiles are refused with the shape."""
    with pytest.raises(UsageError, match="square tiles of RGB frames"):
        tiny.model.gaze(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(tiny, threshold):
    """Nothing compares with nan."""
    with pytest.raises(UsageError, match="is not a finite number"):
        tiny.model.gaze(tiny.clips()[:1], loss_threshold=threshold)


def test_budgets_are_floored_in_float32():
    """A tenth of 265 is 26, at least one token is allowed, and the whole is the whole."""
    assert frame_budgets(0.1, 2) == (26, 26)
    assert frame_budgets([1e-6, 1, 0.2], 3) == (1, 265, 53)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_impossible_ratios_are_refused(ratio):
    """A ratio is a share: above 0, at most 1."""
    with pytest.raises(UsageError, match="is not above 0 and at most 1"):
        frame_budgets(ratio, 2)


def test_ratios_must_match_the_frames():
    """One number for all frames, or one for each."""
    with pytest.raises(UsageError, match="3 gazing ratios for 16 frames"):
        frame_budgets([0.1, 0.1, 0.1], 16)


@pytest.mark.parametrize(
    ("device", "message"),
    [("abacus", "unknown device"), ("meta", "unknown device"), ("cuda:99", "is not there")],
)
def test_a_device_that_is_not_there_is_refused(tiny_network, device, message):
    """The remedy names devices that work."""
    with pytest.raises(UsageError, match=message):
        AutoGaze(tiny_network, device=device)


def test_a_model_keeps_the_weights_it_was_made_with(tiny_config):
    """Training on does not change a model that is gazing."""
    network = fresh_network(tiny_config, seed=1)
    pixels = torch.zeros(1, 1, 3, 224, 224, dtype=torch.uint8)
    model = AutoGaze(network)
    (before,) = model.gaze(pixels, gazing_ratio=0.1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    (after,) = model.gaze(pixels, gazing_ratio=0.1)
    assert as_bytes(before) == as_bytes(after)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_from_pretrained_names_the_weights(tiny):
    """The hash of the weights file travels with the model."""
    assert tiny.model.sha256 == (
        hashlib.sha256((tiny.folder / "model.safetensors").read_bytes()).hexdigest()
    )
