"""The layout against a loop over tokens."""

import numpy as np
import pytest
import torch

from gazepack.encoders import Layout
from gazepack.geometry import SCALE_OFFSETS, SCALE_SIDES
from gazepack.loader import Batch


def views_batch(*, seed: int = 0) -> Batch:
    """Return tokens of two samples with two views each, in the order of the format, without real patches."""
    rng = np.random.default_rng(seed)
    grids = [[(3, 5), (1, 1)], [(2, 2), (1, 1)]]
    rows, bounds, meta = [], [0], []
    for sample in grids:
        for view, (down, across) in enumerate(sample):
            for frame in range(3):
                for rank in range(rng.integers(0, 30)):
                    scale = int(rng.integers(4))
                    side = SCALE_SIDES[scale]
                    row, col = rng.integers(side * down), rng.integers(side * across)
                    rows.append((view, frame, scale, row, col, rank))
        bounds.append(len(rows))
        meta.append({"views": [{"rows": down, "cols": across} for down, across in sample]})
    columns = torch.tensor(rows, dtype=torch.int32).unbind(1)
    names = ("view", "frame", "scale", "row", "col", "rank")
    return Batch(
        patches=torch.zeros(len(rows), 3, 4, 4, dtype=torch.uint8),
        **dict(zip(names, columns, strict=True)),
        loss=torch.zeros(len(rows)),
        cu_seqlens=torch.tensor(bounds, dtype=torch.int32),
        meta=meta,
    )


def naive(
    batch: Batch, window_tiles: int | None
) -> list[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """Return for each token its block (sample, view, window, frame), number, and (shape, scale, row, col)."""
    answers = []
    bounds = batch.cu_seqlens.tolist()
    for token in range(batch.num_tokens):
        sample = max(s for s in range(batch.num_samples) if bounds[s] <= token)
        view, frame, scale, row, col = (
            int(getattr(batch, name)[token]) for name in ("view", "frame", "scale", "row", "col")
        )
        grid = batch.meta[sample]["views"][view]
        side = window_tiles or max(grid["rows"], grid["cols"])
        tile_row, tile_col = row // SCALE_SIDES[scale], col // SCALE_SIDES[scale]
        window_row, window_col = tile_row // side, tile_col // side
        window = window_row * -(-grid["cols"] // side) + window_col
        down = min(side, grid["rows"] - window_row * side)
        wide = min(side, grid["cols"] - window_col * side)
        place = (
            scale,
            row - window_row * side * SCALE_SIDES[scale],
            col - window_col * side * SCALE_SIDES[scale],
        )
        answers.append(((sample, view, window, frame), token, (down, wide, *place)))
    return answers


@pytest.mark.parametrize("window_tiles", [None, 1, 2, 3])
def test_layout_is_what_a_loop_finds(window_tiles: int | None) -> None:
    """Order, blocks, sequences and positions are those of a loop over tokens, whatever the windows."""
    batch = views_batch()
    layout = Layout.of(batch, window_tiles=window_tiles)
    expected = sorted(naive(batch, window_tiles), key=lambda answer: (answer[0], answer[1]))
    assert layout.order_N.tolist() == [token for _, token, _ in expected]

    blocks = sorted({block for block, _, _ in expected})
    columns = (layout.sample_B, layout.view_B, layout.window_B, layout.frame_B)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == blocks
    counts = [sum(other == block for other, _, _ in expected) for block in blocks]
    assert list(layout.lengths_B) == counts
    sequences = [
        sum(other[:3] == first for other in blocks) for first in sorted({b[:3] for b in blocks})
    ]
    assert list(layout.blocks_of_sequence) == sequences

    rows: dict[tuple[int, ...], int] = {}
    for down, wide in layout.shapes:
        for scale, side in enumerate(SCALE_SIDES):
            assert len(rows) - rows.get((down, wide, 0, 0, 0), len(rows)) == (
                SCALE_OFFSETS[scale] * down * wide
            )
            for row in range(side * down):
                for col in range(side * wide):
                    rows[down, wide, scale, row, col] = len(rows)
    assert layout.position_N.tolist() == [rows[place] for _, _, place in expected]


def test_tokens_of_a_frame_keep_their_order() -> None:
    """With the whole view as window a batch of the loader is read as it is."""
    batch = views_batch(seed=1)
    layout = Layout.of(batch, window_tiles=None)
    assert layout.order_N.tolist() == list(range(batch.num_tokens))
