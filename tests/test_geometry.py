"""Scales, grids and token numbers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepack.errors import UsageError
from gazepack.geometry import (
    CELLS_PER_PATCH,
    CELLS_PER_TILE,
    DENSE_TILE_TOKENS,
    SCALE_OFFSETS,
    SCALE_SIDES,
    TILE_SIDE,
    TILE_TOKENS,
    Grid,
    choose_grid,
    tile_ids,
    tile_places,
)

RECORDED = Path(__file__).parent / "data" / "autogaze-tiny" / "expected.npz"

grids = st.builds(
    Grid,
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    patch_size=st.sampled_from([4, 6, 14, 16]),
)


def test_constants_fit_together() -> None:
    """265 choices a tile, scale after scale, and half patches that all scales' borders fall on."""
    assert sum(side * side for side in SCALE_SIDES) == TILE_TOKENS
    assert (
        tuple(sum(side * side for side in SCALE_SIDES[:s]) for s in range(len(SCALE_SIDES)))
        == SCALE_OFFSETS
    )
    assert DENSE_TILE_TOKENS == 196
    for side, cells in zip(SCALE_SIDES, CELLS_PER_PATCH, strict=True):
        assert side * cells == CELLS_PER_TILE


def test_tile_ids_count_scale_by_scale() -> None:
    """Tile ids run coarse to fine and row-major, as counted by hand."""
    by_hand = [
        (s, row, col)
        for s, side in enumerate(SCALE_SIDES)
        for row in range(side)
        for col in range(side)
    ]
    scale, row, col = tile_places(np.arange(TILE_TOKENS))
    assert by_hand == list(zip(scale, row, col, strict=True))
    assert list(range(TILE_TOKENS)) == tile_ids(scale, row, col).tolist()


@pytest.mark.parametrize("bad", [-1, 265])
def test_tile_ids_out_of_range(bad: int) -> None:
    """An id that is no choice of a tile is refused, with the range."""
    with pytest.raises(ValueError, match=rf"must be in 0\.\.264, got .*{bad}"):
        tile_places(np.array([3, bad]))


@given(grids)
def test_grid_ids_are_places(grid: Grid) -> None:
    """Grid ids and places are two names of the same things."""
    ids = np.arange(grid.num_choices)
    places = grid.places(ids)
    np.testing.assert_array_equal(ids, grid.ids(*places))
    for s in range(len(SCALE_SIDES)):
        here = places[0] == s
        assert grid.patches(s) == (places[1][here].max() + 1, places[2][here].max() + 1)


@given(grids)
def test_tiles_cover_the_grid_once(grid: Grid) -> None:
    """Every place belongs to exactly one (tile, tile id), and back."""
    tile, ids = np.divmod(np.arange(grid.num_choices), TILE_TOKENS)
    places = grid.from_tile(tile, ids)
    assert grid.num_choices == len(set(grid.ids(*places).tolist()))
    back_tile, back_ids = grid.to_tile(*places)
    np.testing.assert_array_equal(tile, back_tile)
    np.testing.assert_array_equal(ids, back_ids)


@given(grids, st.integers(0, 15))
def test_gazing_pos_is_undone(grid: Grid, frame: int) -> None:
    """The published number of a token gives back its frame and grid id."""
    ids = np.arange(grid.num_choices)
    frames, back = grid.from_gazing_pos(grid.gazing_pos(np.full_like(ids, frame), ids))
    np.testing.assert_array_equal(ids, back)
    assert {frame} == set(frames.tolist())


def test_gazing_pos_of_one_tile() -> None:
    """On one tile of 16-px patches the published number is frame * 265 + tile id."""
    grid = Grid(rows=1, cols=1, patch_size=16)
    ids = np.arange(TILE_TOKENS)
    np.testing.assert_array_equal(3 * 265 + ids, grid.gazing_pos(np.full_like(ids, 3), ids))


def test_gazing_pos_of_four_tiles() -> None:
    """A 392-px frame at patch 14 is numbered as the published code stitched its 2 x 2 tiles."""
    recorded = np.load(RECORDED)
    grid = Grid(rows=2, cols=2, patch_size=14)
    numbers = []
    for tile in range(4):
        frame, ids = np.divmod(recorded[f"patch14_392/{tile}/ids"].astype(np.int64), TILE_TOKENS)
        numbers.append(grid.gazing_pos(frame, grid.ids(*grid.from_tile(tile, ids))))
    stitched = recorded["patch14_392_stitched/0/ids"]
    np.testing.assert_array_equal(stitched, np.sort(np.concatenate(numbers)))


@pytest.mark.parametrize("place", [(0, 2, 0), (3, 0, 28), (4, 0, 0), (1, -1, 0)])
def test_places_outside_the_grid(place: tuple[int, int, int]) -> None:
    """A place outside the grid is refused."""
    grid = Grid(rows=1, cols=2)
    with pytest.raises(ValueError, match=r"outside|scales must be"):
        grid.ids(*(np.array([x]) for x in place))


def test_grid_ids_out_of_range() -> None:
    """A grid id past the last choice is refused, with the range."""
    with pytest.raises(ValueError, match=r"0\.\.529, got 530"):
        Grid(rows=1, cols=2).places(np.array([530]))


def test_grid_without_tiles() -> None:
    """A grid of no tile is refused."""
    with pytest.raises(UsageError, match="at least 1 x 1 tiles, got 0 x 2"):
        Grid(rows=0, cols=2)


@pytest.mark.parametrize("patch_size", [0, -2, 2, 15, 66])
def test_patch_sizes(patch_size: int) -> None:
    """A patch side that is odd or out of range is refused, with the remedy."""
    with pytest.raises(UsageError, match=f"patch size {patch_size} is not .*; use 14 or 16"):
        Grid(rows=1, cols=1, patch_size=patch_size)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 64), st.sampled_from([14, 16]))
def test_chosen_grid_fits(height: int, width: int, max_tiles: int, patch_size: int) -> None:
    """The chosen grid keeps within the tiles, enlarges nothing larger than a tile, and none is better."""
    grid = choose_grid(height, width, fit="tiles", max_tiles=max_tiles, patch_size=patch_size)
    tile_px = TILE_SIDE * patch_size
    assert grid.num_tiles <= max_tiles
    assert grid.height <= max(height, tile_px)
    assert grid.width <= max(width, tile_px)

    def apart(rows: int, cols: int) -> float:
        return abs(float(np.log(cols / rows) - np.log(width / height)))

    best = min(
        apart(rows, cols)
        for rows in range(1, max_tiles + 1)
        for cols in range(1, max_tiles // rows + 1)
        if rows * tile_px <= max(height, tile_px) and cols * tile_px <= max(width, tile_px)
    )
    assert apart(grid.rows, grid.cols) <= best + 1e-8


@pytest.mark.parametrize(
    ("height", "width", "max_tiles", "expected"),
    [
        (1080, 1920, 8, (2, 4)),
        (1920, 1080, 8, (4, 2)),
        (100, 100, 8, (1, 1)),
        (896, 896, 8, (2, 2)),
        (896, 896, 9, (3, 3)),
        (1080, 1920, 1, (1, 1)),
    ],
)
def test_known_grids(height: int, width: int, max_tiles: int, expected: tuple[int, int]) -> None:
    """Grids of usual videos; of equally close ones the largest is taken."""
    grid = choose_grid(height, width, fit="tiles", max_tiles=max_tiles, patch_size=16)
    assert expected == (grid.rows, grid.cols)


def test_square_is_one_tile() -> None:
    """`square` is one tile whatever the video."""
    grid = choose_grid(1080, 1920, fit="square", max_tiles=8, patch_size=16)
    assert (grid.rows, grid.cols) == (1, 1)


def test_no_tiles_allowed() -> None:
    """A limit below one tile is refused."""
    with pytest.raises(UsageError, match="max tiles 0 is below 1"):
        choose_grid(1080, 1920, fit="tiles", max_tiles=0, patch_size=16)
