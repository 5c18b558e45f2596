import numpy as np
import pytest

from gazepack.geometry import Grid
from gazepack.viewing.drawing import (
    LIGHT,
    MAX_PANE,
    SCALE_COLOURS,
    Layout,
    Shot,
    chosen_pane,
    pane_size,
    patch_box,
    scaled,
    sheet,
    strip,
)


def shot(*tokens: tuple[int, int, int], grid: Grid, source: bool = True) -> Shot:
    """A frame of a bright source and a grey painting, with these (scale, row, col) chosen."""
    scale, row, col = np.asarray(tokens, dtype=np.int64).reshape(-1, 3).T
    size = (grid.height, grid.width, 3)
    return Shot(
        time_seconds=0.5,
        psnr=31.25,
        l1=4.5,
        scale_K=scale,
        row_K=row,
        col_K=col,
        rank_K=np.arange(len(scale)),
        loss_K=np.full(len(scale), np.nan, dtype=np.float16),
        grid=grid,
        source_HW3=np.full(size, 200, dtype=np.uint8) if source else None,
        painted_HW3=np.full(size, 100, dtype=np.uint8),
    )


@pytest.mark.parametrize("scale", [0, 1, 2, 3])
def test_a_chosen_patch_is_outlined_in_the_colour_of_its_scale(scale: int) -> None:
    """All along its border a patch has its scale's colour, and the pixels outside it do not."""
    frame = shot((scale, 1, 2 if scale else 1), grid=Grid(rows=1, cols=1))
    left, top, right, bottom = patch_box(frame, 0)
    side = 448 // (2, 4, 7, 14)[scale]
    assert (left, top) == (side * (2 if scale else 1), side)
    assert (right - left, bottom - top) == (side, side)
    coloured = (chosen_pane(frame) == SCALE_COLOURS[scale]).all(axis=2)
    assert coloured[top, left:right].all()
    assert coloured[bottom - 1, left:right].all()
    assert coloured[top:bottom, left].all()
    assert coloured[top:bottom, right - 1].all()
    coloured[top:bottom, left:right] = False
    assert not coloured.any()


def test_chosen_patches_are_lit_and_the_rest_is_dimmed() -> None:
    """Inside a patch the frame has the light of its scale; elsewhere it is darker than any."""
    frame = shot((0, 0, 0), (2, 5, 5), grid=Grid(rows=1, cols=1))
    pane = chosen_pane(frame)
    assert (pane[112, 112] == round(200 * LIGHT[0])).all()
    assert (pane[352, 352] == round(200 * LIGHT[2])).all()
    assert pane[400, 20].max() < 200 * min(LIGHT)


def test_finer_patches_lie_over_coarser_ones() -> None:
    """Whatever the order of the tokens, the finer outline is seen where two cross."""
    one = shot((3, 0, 0), (0, 0, 0), grid=Grid(rows=1, cols=1))
    other = shot((0, 0, 0), (3, 0, 0), grid=Grid(rows=1, cols=1))
    assert tuple(chosen_pane(one)[0, 0]) == SCALE_COLOURS[3]
    assert np.array_equal(chosen_pane(one), chosen_pane(other))


def test_patches_of_a_large_grid_are_outlined_where_they_lie() -> None:
    """On a shrunk pane the boxes of one scale tile the pane without gap or overlap."""
    grid = Grid(rows=2, cols=3, patch_size=16)
    height, width = pane_size(grid)
    assert width == MAX_PANE
    seen = np.zeros((height, width), dtype=int)
    rows, cols = grid.patches(2)
    frame = shot(*((2, r, c) for r in range(rows) for c in range(cols)), grid=grid)
    for token in range(rows * cols):
        left, top, right, bottom = patch_box(frame, token)
        seen[top:bottom, left:right] += 1
    assert (seen == 1).all()


def test_a_small_frame_is_enlarged_pixel_by_pixel() -> None:
    """A frame of one tile is doubled without any new value."""
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(scaled(picture, Grid(rows=1, cols=1)), expected)


def test_a_frame_without_tokens_is_dimmed_all_over() -> None:
    """A frame of which nothing was chosen has no outline."""
    assert len(np.unique(chosen_pane(shot(grid=Grid(rows=1, cols=1))))) == 1


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 3), (8, 1), (1, 8), (16, 16)])
@pytest.mark.parametrize("num_frames", [1, 3, 8, 20])
def test_a_sheet_is_never_too_wide_and_nothing_overlaps(
    rows: int, cols: int, num_frames: int
) -> None:
    """Whatever the grid, panes lie inside the sheet and apart from each other."""
    grid = Grid(rows=rows, cols=cols)
    layout = Layout(grid=grid, num_frames=num_frames, num_panes=3)
    height, width = pane_size(grid)
    taken = np.zeros((layout.height, layout.width), dtype=int)
    for frame in range(num_frames):
        for pane in range(3):
            left, top = layout.place(frame, pane)
            assert left + width <= layout.width
            assert top + height <= layout.height
            taken[top : top + height, left : left + width] += 1
    assert layout.width <= 2400
    assert taken.max() == 1
    assert taken.sum() == 3 * num_frames * height * width


def test_a_title_of_any_text_is_drawn() -> None:
    """Long names, line breaks and letters that the font lacks do not stop the drawing."""
    frame = shot(grid=Grid(rows=1, cols=1))
    plain = sheet([frame], title="a", facts="b")
    odd = sheet([frame], title="a\nb\x00 日本 " * 99, facts="b")
    assert plain.shape == odd.shape
    assert not np.array_equal(plain, odd)


def test_a_strip_has_even_sides() -> None:
    """The frames of a film suit every video encoder."""
    for grid in (Grid(rows=1, cols=1), Grid(rows=3, cols=5, patch_size=14)):
        height, width, _ = strip(shot(grid=grid), title="x").shape
        assert height % 2 == width % 2 == 0
