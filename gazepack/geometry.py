"""Scales, tiles, grids and token numbers: arithmetic only, no pixels.

A tile is what AutoGaze looks at: a square of 14 x 14 patches of the finest scale. It is cut at four
scales, 2, 4, 7 and 14 patches a side, which gives 4 + 16 + 49 + 196 = 265 choices per tile and frame.
A grid is R x C tiles laid over a frame, and a place is (scale, row, col) counted over the whole grid.

    legend   R, C  tiles down and across      p  side of a patch in pixels      s  scale, 0 (coarse) to 3

Numbers of a token, all row-major inside a scale, coarse scales first:

    tile id       0..264 inside one tile; what the network's vocabulary counts
    grid id       0..265RC-1 over the whole grid; equal to the tile id on a grid of one tile
    gazing_pos    frame * 265RC + grid id; the numbering of the published code's output

Borders of all four scales fall on multiples of half a finest patch, so the errors of any choice can be
summed exactly on a 28R x 28C lattice of half patches (`CELLS_PER_TILE`); patch sides are therefore even.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gazepack.errors import UsageError

Ints = npt.NDArray[np.int64]
Fit = Literal["tiles", "square"]

SCALE_SIDES = (2, 4, 7, 14)
"""Patches along one side of a tile, per scale."""
NUM_SCALES = len(SCALE_SIDES)
FINEST = NUM_SCALES - 1
TILE_SIDE = SCALE_SIDES[FINEST]
SCALE_OFFSETS = (0, 4, 20, 69)
"""The first tile id of each scale."""
TILE_TOKENS = 265
"""Choices per tile and frame."""
DENSE_TILE_TOKENS = TILE_SIDE * TILE_SIDE
"""Tokens that a plain ViT reads per tile and frame."""
CLIP_FRAMES = 16
"""Frames in the window that AutoGaze works on, and the life of one canvas."""
CELLS_PER_TILE = 2 * TILE_SIDE
"""Half patches along one side of a tile."""
CELLS_PER_PATCH = tuple(CELLS_PER_TILE // side for side in SCALE_SIDES)
"""Half patches along one side of a patch, per scale: 14, 7, 4, 2."""

_OFFSETS = np.asarray(SCALE_OFFSETS, dtype=np.int64)
_SIDES = np.asarray(SCALE_SIDES, dtype=np.int64)


def tile_places(ids: Ints) -> tuple[Ints, Ints, Ints]:
    """Return (scale, row, col) of tile ids, each int64 of the shape of `ids`.

    Raises:
        ValueError: an id outside 0..264.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= TILE_TOKENS):
        raise ValueError(f"tile ids must be in 0..{TILE_TOKENS - 1}, got {ids.min()}..{ids.max()}")
    scale = np.searchsorted(_OFFSETS, ids, side="right") - 1
    row, col = np.divmod(ids - _OFFSETS[scale], _SIDES[scale])
    return scale, row, col


def tile_ids(scale: Ints, row: Ints, col: Ints) -> Ints:
    """Return the tile ids of places inside one tile; the inverse of `tile_places`.

    Raises:
        ValueError: a place outside the tile.
    """
    return Grid(rows=1, cols=1).ids(scale, row, col)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """R x C tiles over a frame, cut into patches of `patch_size` pixels.

    Raises:
        UsageError: no tile at all, or a patch side that is odd or outside 4..64.
    """

    rows: int
    """Tiles down the frame (R)."""
    cols: int
    """Tiles across the frame (C)."""
    patch_size: int = 16
    """Side of every patch, in pixels (p)."""

    def __post_init__(self) -> None:
        check_patch_size(self.patch_size)
        if self.rows < 1 or self.cols < 1:
            raise UsageError(f"a grid needs at least 1 x 1 tiles, got {self.rows} x {self.cols}")

    @property
    def num_tiles(self) -> int:
        """Tiles in the grid."""
        return self.rows * self.cols

    @property
    def height(self) -> int:
        """Height of the fitted frame, in pixels."""
        return self.rows * TILE_SIDE * self.patch_size

    @property
    def width(self) -> int:
        """Width of the fitted frame, in pixels."""
        return self.cols * TILE_SIDE * self.patch_size

    @property
    def num_choices(self) -> int:
        """Patches that could be chosen per frame, all scales together."""
        return TILE_TOKENS * self.num_tiles

    @property
    def num_dense(self) -> int:
        """Tokens that a plain ViT reads per frame."""
        return DENSE_TILE_TOKENS * self.num_tiles

    def patches(self, scale: int) -> tuple[int, int]:
        """Return the (rows, cols) of patches of the whole grid at one scale."""
        return SCALE_SIDES[scale] * self.rows, SCALE_SIDES[scale] * self.cols

    def ids(self, scale: Ints, row: Ints, col: Ints) -> Ints:
        """Return the grid ids of places.

        Raises:
            ValueError: a place outside the grid.
        """
        scale, row, col = (np.asarray(x, dtype=np.int64) for x in (scale, row, col))
        if scale.size and (scale.min() < 0 or scale.max() > FINEST):
            raise ValueError(f"scales must be in 0..{FINEST}, got {scale.min()}..{scale.max()}")
        sides = _SIDES[scale]
        inside = (row >= 0) & (row < sides * self.rows) & (col >= 0) & (col < sides * self.cols)
        if not np.all(inside):
            bad = np.flatnonzero(~inside)[0]
            place = tuple(int(x.reshape(-1)[bad]) for x in (scale, row, col))
            raise ValueError(f"place (scale, row, col) = {place} lies outside {self}")
        return _OFFSETS[scale] * self.num_tiles + row * sides * self.cols + col

    def places(self, ids: Ints) -> tuple[Ints, Ints, Ints]:
        """Return (scale, row, col) of grid ids; the inverse of `ids`.

        Raises:
            ValueError: an id outside 0..num_choices-1.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.num_choices):
            raise ValueError(
                f"grid ids must be in 0..{self.num_choices - 1}, got {ids.min()}..{ids.max()}"
            )
        scale = np.searchsorted(_OFFSETS * self.num_tiles, ids, side="right") - 1
        row, col = np.divmod(ids - _OFFSETS[scale] * self.num_tiles, _SIDES[scale] * self.cols)
        return scale, row, col

    def from_tile(self, tile: Ints | int, ids: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the places over the whole grid of ids counted inside tiles (numbered row-major)."""
        scale, row, col = tile_places(ids)
        tile_row: Ints = np.asarray(tile, dtype=np.int64) // self.cols
        tile_col: Ints = np.asarray(tile, dtype=np.int64) % self.cols
        return scale, row + tile_row * _SIDES[scale], col + tile_col * _SIDES[scale]

    def to_tile(self, scale: Ints, row: Ints, col: Ints) -> tuple[Ints, Ints]:
        """Return (tile number, tile id) of places over the whole grid; the inverse of `from_tile`."""
        sides = _SIDES[np.asarray(scale, dtype=np.int64)]
        tile = (row // sides) * self.cols + col // sides
        return tile, tile_ids(scale, row % sides, col % sides)

    def gazing_pos(self, frame: Ints, grid_ids: Ints) -> Ints:
        """Return the published numbering: `frame * num_choices + grid id`."""
        return np.asarray(frame, dtype=np.int64) * self.num_choices + grid_ids

    def from_gazing_pos(self, gazing_pos: Ints) -> tuple[Ints, Ints]:
        """Return (frame, grid id) of published numbers; the inverse of `gazing_pos`."""
        return np.divmod(np.asarray(gazing_pos, dtype=np.int64), self.num_choices)


def check_patch_size(patch_size: int) -> None:
    """Refuse a patch side that the lattice of half patches cannot carry.

    Raises:
        UsageError: the side is odd or outside 4..64.
    """
    if patch_size % 2 or not 4 <= patch_size <= 64:
        raise UsageError(
            f"patch size {patch_size} is not an even number from 4 to 64",
            remedy="use 14 or 16 as most ViTs do",
        )


def choose_grid(height: int, width: int, *, fit: Fit, max_tiles: int, patch_size: int) -> Grid:
    """Choose the grid for a frame of height x width display pixels.

    `square` is one tile. `tiles` takes, among the grids of at most `max_tiles` tiles that do not enlarge
    the frame on either side, the one of the closest aspect ratio, and of equally close ones the largest;
    a frame smaller than one tile is enlarged to one.
    """
    if max_tiles < 1:
        raise UsageError(f"max tiles {max_tiles} is below 1")
    check_patch_size(patch_size)
    tile_px = TILE_SIDE * patch_size
    if fit == "square":
        return Grid(rows=1, cols=1, patch_size=patch_size)
    candidates = [
        (rows, cols)
        for rows in range(1, min(max_tiles, max(1, height // tile_px)) + 1)
        for cols in range(1, min(max_tiles // rows, max(1, width // tile_px)) + 1)
    ]

    def badness(candidate: tuple[int, int]) -> tuple[float, int]:
        rows, cols = candidate
        return round(abs(math.log(cols * height / (rows * width))), 9), -rows * cols

    rows, cols = min(candidates, key=badness)
    return Grid(rows=rows, cols=cols, patch_size=patch_size)
