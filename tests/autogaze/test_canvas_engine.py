import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, fresh_canvas_network
from gazepack.autogaze.canvas_engine import CanvasEngine
from gazepack.errors import UsageError
from gazepack.geometry import Grid
from gazepack.patches import cut, paint, pyramid
from gazepack.video.scenes import objects, pan

TOLERANCE = 1e-4  # float32 sums in another order
CPU = torch.device("cpu")
THRESHOLD = -16.5
"""At or below it is about one loss in eight of the untrained network."""


def clips_of(side, num_frames):
    """Return two clips of things that move, uint8 2 x T x 3 x side x side."""
    clips = [list(scene(side, side, num_frames, 3)) for scene in (objects, pan)]
    return torch.from_numpy(np.asarray(clips)).movedim(-1, 2).contiguous()


@pytest.fixture(scope="module")
def clips():
    return clips_of(224, 3)


@pytest.fixture(scope="module")
def frames(clips):
    """Four frames and what their canvases may hold, uint8 4 x 3 x 224 x 224 each."""
    return clips[:, 1:].flatten(0, 1), clips[:, :2].flatten(0, 1)


@pytest.fixture(scope="module")
def engine(canvas_network):
    return CanvasEngine(canvas_network, device=CPU, dtype=torch.float32)


def decode(network, frame_13SS, canvas_13SS, *, budget, loss_threshold):
    """Decode one frame as it would be explained: all that was fed is fed anew for each question."""
    look = network.look(frame_13SS, canvas_13SS)
    num_at_once = network.config.decoder.num_multi_token_pred
    drawn, ids, losses = [], [], []
    while len(drawn) < budget:
        logits, corrections = network(look, torch.tensor([drawn], dtype=torch.int64))
        was_dropped = False
        for slot in range(min(num_at_once, budget - len(drawn))):
            taken_1V = torch.zeros(1, 266, dtype=torch.bool)
            taken_1V[0, drawn] = True
            loss = float(network.loss_shown(look, taken_1V)[0] + corrections[0, -1, slot])
            scores = logits[0, -1, slot, :265] + network.appeal(look, taken_1V)[0]
            best = max((x for x in range(265) if x not in drawn), key=scores.tolist().__getitem__)
            drawn.append(best)
            if loss_threshold is not None and loss <= loss_threshold and len(drawn) > 1:
                was_dropped = True
            else:
                ids.append(best)
                losses.append(loss)
        if was_dropped:
            break
    return ids, losses


@pytest.mark.parametrize(
    ("budget", "quantile"), [(1, None), (26, None), (265, None), (40, 0.5), (40, 0.97), (40, 0.02)]
)
def test_the_engine_agrees_with_slow_decoding(canvas_network, engine, frames, budget, quantile):
    """Ids are equal and losses close, alone and in a group, whatever budget, threshold and drops."""
    threshold = None
    if quantile is not None:
        (free,) = engine.look(*(x[:1] for x in frames), budgets=[budget], loss_threshold=None)
        threshold = float(np.quantile(free.loss, quantile)) + 1e-3  # clear of each
    together = engine.look(*frames, budgets=[budget] * 4, loss_threshold=threshold)
    for n in range(1 if budget == 265 else 4):
        alone = [x[n : n + 1] for x in frames]
        ids, losses = decode(canvas_network, *alone, budget=budget, loss_threshold=threshold)
        for found in (
            together[n],
            *engine.look(*alone, budgets=[budget], loss_threshold=threshold),
        ):
            assert found.ids == ids
            np.testing.assert_allclose(found.loss, losses, atol=TOLERANCE)


def test_a_dropped_slot_may_lie_between_kept_ones(engine, frames):
    """A slot at or below the threshold is left out, a later one of its step above it is kept."""
    one = [x[:1] for x in frames]
    (free,) = engine.look(*one, budgets=[40], loss_threshold=None)
    threshold = float(np.median(free.loss))  # between two of them
    (found,) = engine.look(*one, budgets=[40], loss_threshold=threshold)
    kept = [loss > np.float32(threshold) for loss in free.loss]
    steps = [kept[start : start + 10] for start in range(0, 40, 10)]
    last = next(n for n, step in enumerate(steps) if not all(step[n == 0 :]))
    expected = [x for n, x in enumerate(free.ids[: 10 * last + 10]) if kept[n] or n == 0]
    assert found.ids == expected
    assert expected != free.ids[: len(expected)]


def test_frames_have_budgets_of_their_own(engine, frames):
    """Frames that end early do not disturb those that go on."""
    budgets = [1, 40, 13, 3]
    together = engine.look(*frames, budgets=budgets, loss_threshold=None)
    for n, budget in enumerate(budgets):
        (alone,) = engine.look(
            *(x[n : n + 1] for x in frames), budgets=[budget], loss_threshold=None
        )
        assert together[n].ids == alone.ids
        assert len(alone.ids) == budget


def test_all_patches_come_once(engine, frames):
    """With the whole budget a frame is gazed at until nothing is left."""
    (found,) = engine.look(*(x[:1] for x in frames), budgets=[265], loss_threshold=None)
    assert sorted(found.ids) == list(range(265))


def test_the_first_token_is_never_dropped(engine, frames):
    """A threshold above every loss leaves one token a frame; one below every loss leaves the budget."""
    above, below, without = (
        engine.look(*frames, budgets=[12] * 4, loss_threshold=threshold)
        for threshold in (1e9, -1e9, None)
    )
    assert [len(frame.ids) for frame in above] == [1] * 4
    assert below == without


def test_the_engine_keeps_the_weights_it_was_made_with(canvas_config, frames):
    """Training on changes neither an engine nor, by the engine, the network."""
    network = fresh_canvas_network(canvas_config, seed=1)
    engine = CanvasEngine(network, device=CPU, dtype=torch.float32)
    (before,) = engine.look(*(x[:1] for x in frames), budgets=[12], loss_threshold=None)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5)
    (after,) = engine.look(*(x[:1] for x in frames), budgets=[12], loss_threshold=None)
    assert before == after
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_decodes(canvas_network, frames):
    """In bfloat16 losses stay within a dB and the first choices agree: the readings are not rounded on."""
    half = CanvasEngine(canvas_network, device=CPU, dtype=torch.bfloat16)
    whole = CanvasEngine(canvas_network, device=CPU, dtype=torch.float32)
    a, b = (x.look(*frames, budgets=[10] * 4, loss_threshold=None) for x in (half, whole))
    np.testing.assert_allclose([x.loss[0] for x in a], [x.loss[0] for x in b], atol=1)
    assert all(len(set(x.ids) & set(y.ids)) >= 5 for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------------- through `AutoGaze`


def as_bytes(gaze):
    return gaze.ids.tobytes(), gaze.num_each_frame.tobytes(), gaze.loss.tobytes()


def test_a_row_is_the_same_to_the_bit_in_every_batch_and_on_any_number_of_threads(
    canvas_model, clips
):
    """Neighbours and threads change neither ids nor losses of a clip."""
    alone = [as_bytes(canvas_model.gaze(clip[None], gazing_ratio=0.05)[0]) for clip in clips]
    before = torch.get_num_threads()
    try:
        for num_threads in (2, 4):
            torch.set_num_threads(num_threads)
            together = canvas_model.gaze(clips[[1, 0]], gazing_ratio=0.05)
            assert [as_bytes(gaze) for gaze in together] == alone[::-1]
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)


def test_frames_shown_together_are_those_shown_alone_to_the_bit(canvas_model, frames):
    """`look` gives each frame what it gets alone, and leaves frames and canvases as they were."""
    copies = [x.clone() for x in frames]
    together = canvas_model.look(*frames, budgets=[30, 5, 30, 12], loss_threshold=THRESHOLD)
    for n, budget in enumerate((30, 5, 30, 12)):
        alone = canvas_model.look(
            *(x[n : n + 1] for x in frames), budgets=[budget], loss_threshold=THRESHOLD
        )
        assert alone == [together[n]]
    assert all(torch.equal(x, copy) for x, copy in zip(frames, copies, strict=True))


def test_frames_in_groups_of_an_accelerator_choose_what_they_choose_alone(
    canvas_network, canvas_model, clips, frames, monkeypatch
):
    """Memory that is used again, strides and few questions change no id (here on the CPU)."""
    settings = {"budgets": [30, 5, 100, 12], "loss_threshold": THRESHOLD}
    alone = canvas_model.look(*frames, **settings)
    clip_alone = canvas_model.gaze(clips, gazing_ratio=0.1, loss_threshold=THRESHOLD)
    model = AutoGaze(canvas_network, memory_bytes=2**40)
    monkeypatch.setattr(CanvasEngine, "is_accelerator", True)
    for shown in (frames, [x.flip(0) for x in frames], frames):
        together = model.look(*shown, **settings)
    assert [frame.ids for frame in together] == [frame.ids for frame in alone]
    gazes = model.gaze(clips, gazing_ratio=0.1, loss_threshold=THRESHOLD)
    for gaze, expected in zip(gazes, clip_alone, strict=True):
        np.testing.assert_array_equal(gaze.ids, expected.ids)
    assert [rows for rows, _ in model._groups] == [4, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_chooses_what_the_cpu_chooses(canvas_network, canvas_model, frames):
    """Done, recorded and replayed, in float32, with frames in another order each time."""
    settings = {"budgets": [30] * 4, "loss_threshold": THRESHOLD}
    expected = [frame.ids for frame in canvas_model.look(*frames, **settings)]
    model = AutoGaze(canvas_network, device="cuda")
    for turn in range(3):
        found = model.look(*(x.roll(turn, 0) for x in frames), **settings)
        assert [frame.ids for frame in found] == expected[-turn:] + expected[:-turn]


@pytest.mark.parametrize("side", [224, 196, 56])
def test_a_gaze_paints_its_own_choices(canvas_model, side):
    """Each frame is gazed at over a canvas that shows what was chosen before, grey at first."""
    clip_T3SS = clips_of(side, 3)[0]
    (gaze,) = canvas_model.gaze(clip_T3SS[None], gazing_ratio=0.1, loss_threshold=THRESHOLD)
    canvas_13SS = torch.full_like(clip_T3SS[:1], 128)
    ids, losses = [], []
    for t in range(3):
        frame_13SS = clip_T3SS[t : t + 1]
        (found,) = canvas_model.look(
            frame_13SS, canvas_13SS, budgets=[26], loss_threshold=THRESHOLD
        )
        ids.extend(265 * t + np.asarray(found.ids))
        losses.extend(found.loss)
        places = Grid(rows=1, cols=1).places(np.asarray(found.ids))
        scale, row, col = (torch.from_numpy(x) for x in places)
        at = {"frame": torch.zeros_like(scale), "scale": scale, "row": row, "col": col}
        paint(canvas_13SS, cut(pyramid(frame_13SS), **at, patch_size=side // 14), **at)
    assert gaze.ids.tolist() == ids
    assert gaze.loss.tolist() == losses
    assert 3 < gaze.num_each_frame.sum() == len(ids) < 3 * 26


def test_a_stream_equals_the_whole_clip_to_the_bit(canvas_model, clips):
    """However frames are cut into calls, ids and losses are those of the clip at once."""
    settings = {"gazing_ratio": 0.2, "loss_threshold": THRESHOLD}
    (whole,) = canvas_model.gaze(clips[:1], **settings)
    for cuts in ([3], [1, 1, 1], [2, 1]):
        stream = canvas_model.stream()
        parts = [stream.push(part, **settings) for part in clips[0].split(cuts)]
        assert stream.num_frames == 3
        for name in ("ids", "num_each_frame", "loss"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert joined.tobytes() == getattr(whole, name).tobytes()


def test_streams_do_not_share_a_canvas(canvas_model, clips):
    """A second stream begins with grey, whatever the first has seen."""
    first, second = canvas_model.stream(), canvas_model.stream()
    before = first.push(clips[0, :1], gazing_ratio=0.1)
    first.push(clips[0, 1:], gazing_ratio=0.1)
    assert as_bytes(second.push(clips[0, :1], gazing_ratio=0.1)) == as_bytes(before)


@pytest.mark.parametrize("side", [210, 30])
def test_a_side_that_does_not_divide_is_refused(canvas_model, side):
    """A canvas can only be painted where patches have whole, even sides."""
    tiles = torch.zeros(1, 1, 3, side, side, dtype=torch.uint8)
    with pytest.raises(UsageError, match=rf"a tile of {side} px does not divide into 14 patches"):
        canvas_model.gaze(tiles)


def test_a_network_that_remembers_tokens_is_not_shown_a_canvas(tiny_network, frames):
    """Such a network gazes at whole clips."""
    model = AutoGaze(tiny_network)
    with pytest.raises(UsageError, match=r"remembers tokens.*let it gaze at whole clips"):
        model.look(*frames, budgets=[1] * 4, loss_threshold=None)
