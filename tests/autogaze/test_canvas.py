import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gazepack.autogaze import AutoGazeConfig, fresh_canvas_network
from gazepack.autogaze.canvas import Look, as_input, measured
from gazepack.geometry import Grid
from gazepack.patches import cut, paint, psnr, pyramid
from gazepack.selectors.tiles import FrameTiles
from gazepack.video.scenes import objects

GRID = Grid(rows=1, cols=1)
HALVES = (14, 7, 4, 2)
"""Half patches along a patch of each scale."""
TOLERANCE = 1e-4  # float32 sums in another order


def squares():
    """Return the half patches that each tile id covers: (first row, first column, side)."""
    scale, row, col = GRID.places(np.arange(265))
    return [
        (r * HALVES[s], c * HALVES[s], HALVES[s]) for s, r, c in zip(scale, row, col, strict=True)
    ]


SQUARES = squares()
COVERS = [{(y + i, x + j) for i in range(n) for j in range(n)} for y, x, n in SQUARES]


@pytest.fixture(scope="module")
def frames():
    """Four frames, uint8 4 x 3 x 224 x 224."""
    return (
        torch.from_numpy(np.stack(list(objects(224, 224, 4, 5)))).permute(0, 3, 1, 2).contiguous()
    )


@pytest.fixture(scope="module")
def look(canvas_network, frames):
    """What the encoder finds in the latter two, with the former two as their canvases."""
    return canvas_network.look(frames[2:], frames[:2])


def flags(*chosen):
    """Return which ids are painted, bool N x Q x V of nested lists of ids."""
    flags_NQV = torch.zeros(len(chosen), len(chosen[0]), 266, dtype=torch.bool)
    for n, row in enumerate(chosen):
        for q, ids in enumerate(row):
            flags_NQV[n, q, list(ids)] = True
    return flags_NQV


def some_choices(seed):
    """Return two rows of three sets of ids: none, few and many."""
    random = np.random.default_rng(seed)
    return [[random.permutation(265)[:n].tolist() for n in (0, 5, 60)] for _ in range(2)]


# ---------------------------------------------------------------------------------------- geometry


def test_half_patches_know_who_covers_them(canvas_network):
    """Each half patch is covered by one patch of each scale; the first row stands for the canvas."""
    choice_EYX = canvas_network.choice_EH.unflatten(1, (28, 28))
    assert (choice_EYX[0] == 265).all()
    for tile_id, (y, x, n) in enumerate(SQUARES):
        scale = int(canvas_network.scale_I[tile_id])
        assert n == HALVES[scale]
        assert (choice_EYX[1 + scale, y : y + n, x : x + n] == tile_id).all()


def test_patches_read_the_cells_they_cover(canvas_network):
    """A patch is the mean of the cells it covers, each by the share that lies in it."""
    expected = np.zeros((265, 196), dtype=np.float32)
    for tile_id, covered in enumerate(COVERS):
        for y, x in covered:
            expected[tile_id, y // 2 * 14 + x // 2] += 1 / len(covered)
    np.testing.assert_allclose(canvas_network.share_IC, expected, atol=1e-6)


def test_patches_know_what_is_finer(canvas_network):
    """Between two patches stands how many half patches of the coarser the finer covers, else nothing."""
    for tile_id in (0, 3, 9, 44, 68, 100, 264):
        for other, covered in enumerate(COVERS):
            is_finer = len(covered) < len(COVERS[tile_id])
            expected = len(COVERS[tile_id] & covered) if is_finer else 0
            assert int(canvas_network.over_II[other, tile_id]) == expected


def test_patches_know_what_is_beneath(canvas_network):
    """Beneath a patch lies, of each coarser scale, the patch that holds its centre."""
    for tile_id, (y, x, n) in enumerate(SQUARES):
        centre = y + n // 2, x + n // 2
        scale = int(canvas_network.scale_I[tile_id])
        for coarser in range(3):
            at = math.floor(centre[0] / HALVES[coarser]), math.floor(centre[1] / HALVES[coarser])
            expected = int(GRID.ids(coarser, *at)) if coarser < scale else 265
            assert int(canvas_network.beneath_IL[tile_id, coarser]) == expected


# ---------------------------------------------------------------------------------------- readings


@pytest.mark.parametrize("seed", range(3))
def test_appeal_is_what_is_read_over_what_lies_beneath(canvas_network, look, seed):
    """A patch appeals as read for the finest patch beneath it, less where finer patches cover it."""
    chosen = some_choices(seed)
    found_NQI = canvas_network.appeal(look, flags(*chosen))
    for n, row in enumerate(chosen):
        for q, ids in enumerate(row):
            for tile_id, mine in enumerate(COVERS):
                scale = int(canvas_network.scale_I[tile_id])
                beneath = canvas_network.beneath_IL[tile_id].tolist()
                level = max((s + 1 for s in range(3) if beneath[s] in ids), default=0)
                over = sum(len(mine & COVERS[i]) for i in ids if len(COVERS[i]) < len(mine))
                open_share = 1.03 - min(1.0, over / len(mine))
                expected = float(canvas_network.appeal_scale * look.appeal_NIL[n, tile_id, level])
                expected += float(canvas_network.open_weight[scale]) * math.log(open_share)
                assert float(found_NQI[n, q, tile_id]) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_shown_is_the_mean_of_what_shows(canvas_network, look, seed):
    """Every half patch counts with the error of the finest patch over it, or of the canvas."""
    chosen = some_choices(seed)
    found_NQ = canvas_network.loss_shown(look, flags(*chosen))
    for n, row in enumerate(chosen):
        for q, ids in enumerate(row):
            total = 0.0
            for y in range(28):
                for x in range(28):
                    over = [int(canvas_network.scale_I[i]) for i in ids if (y, x) in COVERS[i]]
                    half = y * 28 + x
                    log = look.canvas_log_errors_NH[n, half]
                    if over:
                        log = look.log_errors_NEH[n, 1 + max(over), half]
                    total += 2.0 ** float(log)
            assert float(found_NQ[n, q]) == pytest.approx(
                10 * math.log10(total / 784), abs=TOLERANCE
            )


def true_look(frame_13SS, canvas_13SS):
    """Return a look that knows the true errors, and the tiles they were measured on."""
    tiles = FrameTiles.of(frame_13SS, canvas_13SS, patch_size=16, as_read=None)
    errors_EYX = tiles.lattice(num_frames=1).errors_BGEYX[0, 0] / (3 * 8 * 8 * 255**2)
    logs = np.log2(np.maximum(errors_EYX, 1e-30)).reshape(1, 5, 784)
    nothing = torch.zeros(1, 1, 1)
    return Look(
        cells_NCD=nothing,
        patches_NID=nothing,
        appeal_NIL=nothing,
        log_errors_NEH=torch.from_numpy(logs).float(),
        canvas_log_errors_NH=torch.from_numpy(logs[:, 0]).float(),
    )


@settings(max_examples=25, deadline=None)
@given(ids=st.sets(st.integers(0, 264), max_size=80))
def test_true_errors_give_the_true_loss(canvas_network, frames, ids):
    """Fed the true errors of half patches, the loss shown is minus the PSNR of the painted frame."""
    frame_13SS, canvas_13SS = frames[3:], frames[:1].clone()
    shown = canvas_network.loss_shown(true_look(frame_13SS, canvas_13SS), flags([sorted(ids)]))
    places = GRID.places(np.asarray(sorted(ids), dtype=np.int64))
    scale, row, col = (torch.from_numpy(x) for x in places)
    at = {"frame": torch.zeros_like(scale), "scale": scale, "row": row, "col": col}
    paint(canvas_13SS, cut(pyramid(frame_13SS), **at, patch_size=16), **at)
    squares = float((frame_13SS.double() - canvas_13SS.double()).square().sum())
    assert float(shown[0, 0]) == pytest.approx(-psnr(squares, frame_13SS.numel()), abs=TOLERANCE)


@pytest.mark.parametrize("patch_size", [16, 14])
def test_the_canvas_is_measured(frames, patch_size):
    """The error of each half patch of a canvas is its mean square, pixel by pixel, no less than 60 dB."""
    side, half = 14 * patch_size, patch_size // 2
    frame_3SS, canvas_3SS = frames[0, :, :side, :side], frames[1, :, :side, :side].clone()
    canvas_3SS[:, :half, :half] = frame_3SS[:, :half, :half]
    found_H = measured(frame_3SS[None], canvas_3SS[None])[0]
    assert float(found_H[0]) == pytest.approx(math.log2(1e-6))
    for y, x in ((0, 1), (13, 14), (27, 27)):
        at = slice(y * half, (y + 1) * half), slice(x * half, (x + 1) * half)
        apart = (frame_3SS[:, *at].double() - canvas_3SS[:, *at].double()) / 255
        expected = math.log2(max(1e-6, float(apart.square().mean())))
        assert float(found_H[y * 28 + x]) == pytest.approx(expected, abs=TOLERANCE)


def test_what_stands_is_known(canvas_network, frames):
    """Before the first choice the loss shown is minus the true PSNR, whatever the weights are."""
    look = canvas_network.look(frames[:1], frames[1:2])
    squares = float((frames[0].double() - frames[1].double()).square().sum())
    shown = canvas_network.loss_shown(look, flags([[]]))
    assert float(shown[0, 0]) == pytest.approx(-psnr(squares, frames[0].numel()), abs=0.01)


def test_readings_of_one_frame_need_no_questions(canvas_network, look):
    """The axis of questions may be left out, as decoding does, and frames may be looked up alone."""
    taken_NQV = flags(*some_choices(7))
    for reading in (canvas_network.appeal, canvas_network.loss_shown):
        with_questions = reading(look, taken_NQV)
        torch.testing.assert_close(reading(look, taken_NQV[:, 2]), with_questions[:, 2])
        second = torch.tensor([1])
        alone = reading(look.rows(second), taken_NQV[second])
        torch.testing.assert_close(alone, with_questions[1:])


# ----------------------------------------------------------------------------------- the network


def test_the_difference_from_the_canvas_is_seen(canvas_network, frames):
    """Another canvas gives other readings; the input holds the frame and, enlarged, its difference."""
    a, b = (canvas_network.look(frames[:1], canvas).appeal_NIL for canvas in frames[2:, None])
    assert not torch.equal(a, b)
    x_N6SS = as_input(frames[:1], frames[1:2])
    apart = frames[0].float() - frames[1].float()
    torch.testing.assert_close(x_N6SS[0, :3], frames[0].float() / 64 - 2)
    torch.testing.assert_close(x_N6SS[0, 3:], apart / 16)


def test_other_sides_are_resized(canvas_network, frames):
    """Tiles of 196 px are looked at as their enlargement, the difference enlarged with them."""
    small, canvas = frames[:1, :, :196, :196], frames[1:2, :, 28:, 28:]
    found = as_input(small, canvas)
    assert found.shape == (1, 6, 224, 224)
    larger = functional.interpolate(
        (small.float() - canvas.float()) / 16, (224, 224), mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(found[:, 3:], larger)
    assert canvas_network.look(small, canvas).log_errors_NEH.shape == (1, 5, 784)


def test_a_token_does_not_see_what_follows(canvas_network, look):
    """Changing the third token changes nothing that is said before it, and what is said after it."""
    ids_NJ = torch.tensor([[3, 90, 200, 7], [50, 4, 9, 265]])
    other_NJ = ids_NJ.clone()
    other_NJ[:, 2] = torch.tensor([12, 81])
    for found, changed in zip(
        canvas_network(look, ids_NJ), canvas_network(look, other_NJ), strict=True
    ):
        assert found.shape[1] == 5
        torch.testing.assert_close(found[:, :3], changed[:, :3], atol=TOLERANCE, rtol=0)
        assert ((found[:, 3:] - changed[:, 3:]).abs().flatten(2).amax(2) > TOLERANCE).all()


def test_what_is_known_is_not_corrected(canvas_network, look):
    """Only the loss before the first token of a frame is left as it was measured."""
    _, losses_NQK = canvas_network(look, torch.tensor([[3, 90], [50, 4]]))
    assert (losses_NQK[:, 0, 0] == 0).all()
    assert int((losses_NQK == 0).sum()) == 2


def test_an_end_shows_nothing(canvas_network, look):
    """What is fed for the end of a list is its embedding alone; for a patch, also what it shows."""
    network = canvas_network
    fed = network.embed(look, torch.tensor([[265, 8], [265, 8]]))
    embeddings = network.gaze_decoder.model.embed_tokens.weight
    blank = embeddings[265] + network.token_proj.bias
    torch.testing.assert_close(fed[:, 0], blank.expand(2, -1))
    shown = network.token_proj(look.patches_NID[:, 8])
    torch.testing.assert_close(fed[:, 1], embeddings[8] + shown)


def test_equal_seeds_give_equal_weights(canvas_config):
    """Weights depend on the seed alone, and torch's own generator is left as it was."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = fresh_canvas_network(canvas_config, seed=5).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = (fresh_canvas_network(canvas_config, seed=s).state_dict() for s in (5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "encoder.steps.0.weight"
    assert not torch.equal(first[name], other[name])


def test_a_fresh_network_lets_the_readings_decide(canvas_config, frames):
    """Before training the decoder adds nothing, and errors are about what they usually are."""
    network = fresh_canvas_network(canvas_config, seed=0)
    look = network.look(frames[:2], frames[2:])
    logits, losses = network(look, torch.tensor([[1, 2], [3, 4]]))
    assert not logits.any()
    assert not losses.any()
    means_E = look.log_errors_NEH.mean((0, 2))
    usual_E = torch.tensor([-8.0, -7.0, -8.0, -10.0, -19.93])
    assert ((means_E - usual_E).abs() < 1.5).all()


def test_the_default_has_two_million_weights():
    """What is trained by default has 2.26 million, and all that is saved of a network is its weights."""
    network = fresh_canvas_network(AutoGazeConfig.default(), seed=0)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 2.26
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
