"""The gaze in pictures: three panes a frame, laid out as a sheet or as the frames of a film.

A pane is the fitted frame at a size that reads well: small ones are enlarged by a whole factor, so that a
pixel stays a pixel, large ones are shrunk. On the middle pane the frame is dimmed, the chosen patches are lit,
finer ones brighter, and each is outlined in the colour of its scale. A patch of few pixels is then mostly
outline; what the eye loses there, it gains in seeing where the fine ones crowd.

    legend   H, W  height and width of a picture, in pixels      K  tokens of one frame
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gazepack.geometry import CELLS_PER_PATCH, NUM_SCALES, Grid
from gazepack.patches import Pixels

Colour = tuple[int, int, int]

SCALE_COLOURS: tuple[Colour, ...] = ((255, 99, 99), (255, 196, 61), (94, 222, 129), (77, 190, 255))
"""Outlines, coarse to fine: red, yellow, green, blue."""
LINE_WIDTHS = (3, 3, 2, 2)
"""Of the outlines, coarse to fine, in pixels; thinner where a patch has under six times as many a side."""
LIGHT = (0.6, 0.72, 0.86, 1.0)
"""Brightness inside a chosen patch, coarse to fine."""
DIMMED = 0.32
"""Brightness of what was not chosen."""
MAX_PANE = 560
"""Longest side of a pane, in pixels."""
MAX_WIDTH = 2400
"""Of a sheet, in pixels, unless a single column is wider."""

_BACKGROUND: Colour = (17, 20, 26)
_BRIGHT: Colour = (236, 239, 244)
_SOFT: Colour = (158, 167, 181)
_MARGIN, _GAP, _GUTTER = 28, 14, 34
_TITLE, _TEXT = 28, 20
_LINE = 34
_MIN_CELL, _MIN_WIDTH = 290, 640
_MAX_LETTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One frame of a sample, with all that is drawn of it."""

    time_seconds: float
    """From the start of the video."""
    psnr: float
    """Of the painted frame, in dB, as it is stored."""
    l1: float
    """Mean absolute error of the painted frame, in 8-bit steps, as it is stored."""
    scale_K: npt.NDArray[np.int64]
    """Scale of each chosen patch."""
    row_K: npt.NDArray[np.int64]
    """Its row over the whole grid."""
    col_K: npt.NDArray[np.int64]
    """Its column over the whole grid."""
    rank_K: npt.NDArray[np.int64]
    """Its position in the gaze order of its tile."""
    loss_K: npt.NDArray[np.float16]
    """What the selector predicted before it was added; NaN where unknown."""
    grid: Grid
    """Of the view."""
    source_HW3: Pixels | None
    """The fitted frame of the video; `None` when the video is not at hand."""
    painted_HW3: Pixels
    """What the tokens paint."""


def pane_size(grid: Grid) -> tuple[int, int]:
    """Return the (height, width) of a pane in pixels: a multiple of the fitted frame, or smaller."""
    longest = max(grid.height, grid.width)
    if longest <= MAX_PANE:
        factor = MAX_PANE // longest
        return grid.height * factor, grid.width * factor
    height, width = (round(side * MAX_PANE / longest) for side in (grid.height, grid.width))
    return max(1, height), max(1, width)


def scaled(picture_HW3: Pixels, grid: Grid) -> Pixels:
    """Return a fitted frame at the size of its pane."""
    height, width = pane_size(grid)
    enlarges = height >= picture_HW3.shape[0]
    how = Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture_HW3).resize((width, height), how))


def patch_box(shot: Shot, token: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a patch on its pane, right and bottom exclusive."""
    scale = int(shot.scale_K[token])
    side = CELLS_PER_PATCH[scale] * shot.grid.patch_size // 2
    height, width = pane_size(shot.grid)
    row, col = int(shot.row_K[token]), int(shot.col_K[token])
    xs = [round(x * side * width / shot.grid.width) for x in (col, col + 1)]
    ys = [round(y * side * height / shot.grid.height) for y in (row, row + 1)]
    return xs[0], ys[0], xs[1], ys[1]


def chosen_pane(shot: Shot) -> Pixels:
    """Draw the chosen patches over the dimmed frame; over the painted one where the source is missing."""
    under_HW3 = shot.painted_HW3 if shot.source_HW3 is None else shot.source_HW3
    pane_HW3 = scaled(under_HW3, shot.grid).astype(np.float32)
    grey_HW1 = pane_HW3.mean(axis=2, keepdims=True)
    light_HW1 = np.zeros_like(grey_HW1)
    order = np.argsort(shot.scale_K, kind="stable")
    boxes = [(int(shot.scale_K[token]), patch_box(shot, int(token))) for token in order]
    for scale, (left, top, right, bottom) in boxes:
        light_HW1[top:bottom, left:right] = LIGHT[scale]
    lit_HW3 = np.where(light_HW1 > 0, pane_HW3 * light_HW1, grey_HW1 * DIMMED)
    image = Image.fromarray(lit_HW3.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for scale, (left, top, right, bottom) in boxes:
        box = (left, top, right - 1, bottom - 1)
        width = max(1, min(LINE_WIDTHS[scale], (right - left) // 6))
        draw.rectangle(box, outline=SCALE_COLOURS[scale], width=width)
    return np.asarray(image)


def panes(shot: Shot) -> dict[str, Pixels]:
    """Return the panes of a frame by name, in their order; without `source` when it is missing."""
    source = {} if shot.source_HW3 is None else {"source": scaled(shot.source_HW3, shot.grid)}
    painted_HW3 = scaled(shot.painted_HW3, shot.grid)
    return {**source, "chosen": chosen_pane(shot), "painted": painted_HW3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things lie on a sheet: time goes right, the panes of a frame stand below each other.

    Frames that do not fit beside each other go on in a further band.
    """

    grid: Grid
    """Of the view."""
    num_frames: int
    """Frames on the sheet."""
    num_panes: int
    """Panes a frame, 2 or 3."""

    @property
    def cell_width(self) -> int:
        """Width of a column."""
        return max(_MIN_CELL, pane_size(self.grid)[1])

    @property
    def columns(self) -> int:
        """Frames beside each other; bands are equally long, but for the last."""
        room = MAX_WIDTH - 2 * _MARGIN - _GUTTER + _GAP
        most = max(1, room // (self.cell_width + _GAP))
        bands = -(-self.num_frames // most)
        return -(-self.num_frames // bands)

    @property
    def band_height(self) -> int:
        """Height of a band, with its captions and the space below it."""
        return _LINE + self.num_panes * (pane_size(self.grid)[0] + _GAP) + _GAP

    @property
    def width(self) -> int:
        """Width of the sheet."""
        content = _GUTTER + self.columns * (self.cell_width + _GAP) - _GAP
        return max(_MIN_WIDTH, 2 * _MARGIN + content)

    @property
    def height(self) -> int:
        """Height of the sheet."""
        bands = -(-self.num_frames // self.columns)
        return 2 * _MARGIN + _TITLE + _LINE + _GAP + bands * self.band_height + _LINE

    def place(self, frame: int, pane: int) -> tuple[int, int]:
        """Return the (left, top) of a pane."""
        band, column = divmod(frame, self.columns)
        height, width = pane_size(self.grid)
        left = _MARGIN + _GUTTER + column * (self.cell_width + _GAP)
        top = _MARGIN + _TITLE + _LINE + _GAP + band * self.band_height + _LINE
        return left + (self.cell_width - width) // 2, top + pane * (height + _GAP)


def sheet(shots: Sequence[Shot], *, title: str, facts: str) -> Pixels:
    """Draw some frames of a sample.

    Args:
        shots: at least one, all of one view, all with their source or all without.
        title: the first line; what does not fit is cut off.
        facts: the line below it.

    Returns:
        uint8 H x W x 3.
    """
    drawn = [panes(shot) for shot in shots]
    layout = Layout(grid=shots[0].grid, num_frames=len(shots), num_panes=len(drawn[0]))
    image = Image.new("RGB", (layout.width, layout.height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    room = layout.width - 2 * _MARGIN
    _write(draw, (_MARGIN, _MARGIN), title, room=room, size=_TITLE)
    _write(draw, (_MARGIN, _MARGIN + _LINE + 4), facts, room=room, colour=_SOFT)
    for frame, (shot, pictures) in enumerate(zip(shots, drawn, strict=True)):
        for pane, (name, picture_HW3) in enumerate(pictures.items()):
            left, top = layout.place(frame, pane)
            image.paste(Image.fromarray(picture_HW3), (left, top))
            if frame % layout.columns == 0:
                middle = top + picture_HW3.shape[0] // 2
                _write_upwards(image, (_MARGIN, middle), name)
        left, top = layout.place(frame, 0)
        _write(draw, (left, top - _LINE + 4), caption(shot), room=layout.cell_width)
    _draw_legend(draw, (_MARGIN, layout.height - _MARGIN - _TEXT), shots[0].grid)
    return np.asarray(image)


def strip(shot: Shot, *, title: str) -> Pixels:
    """Draw one frame of a film: its panes side by side; height and width are even.

    Returns:
        uint8 H x W x 3.
    """
    drawn = panes(shot)
    height, width = pane_size(shot.grid)
    cell = max(_MIN_CELL, width)
    size = (
        _even(max(_MIN_WIDTH, 2 * _MARGIN + len(drawn) * (cell + _GAP) - _GAP)),
        _even(2 * _MARGIN + _TITLE + _GAP + height + _GAP + _LINE),
    )
    image = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(image)
    top = _MARGIN + _TITLE + _GAP
    said = caption(shot)
    room = size[0] - 2 * _MARGIN
    _write(draw, (size[0] - _MARGIN, _MARGIN), said, room=room, anchor="ra")
    _write(draw, (_MARGIN, _MARGIN), title, room=room - round(_font(_TEXT).getlength(said)) - _GAP)
    for number, picture_HW3 in enumerate(drawn.values()):
        left = _MARGIN + number * (cell + _GAP) + (cell - width) // 2
        image.paste(Image.fromarray(picture_HW3), (left, top))
    _draw_legend(draw, (_MARGIN, top + height + _GAP), shot.grid)
    return np.asarray(image)


def caption(shot: Shot) -> str:
    """Return what stands over a frame: its time, tokens and PSNR."""
    return f"{shot.time_seconds:.2f} s  ·  {len(shot.scale_K)} tokens  ·  {shot.psnr:.1f} dB"


def _draw_legend(draw: ImageDraw.ImageDraw, place: tuple[int, int], grid: Grid) -> None:
    """Name the colours: how many pixels of the fitted frame a patch of each scale covers."""
    left, top = place
    for scale in range(NUM_SCALES):
        side = CELLS_PER_PATCH[scale] * grid.patch_size // 2
        box = (left, top + 2, left + 16, top + 18)
        draw.rectangle(box, outline=SCALE_COLOURS[scale], width=3)
        words = f"scale {scale}: {side} px"
        _write(draw, (left + 26, top), words, room=_MIN_WIDTH, size=17, colour=_SOFT)
        left += 26 + round(_font(17).getlength(words)) + 24


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    *,
    room: int,
    size: int = _TEXT,
    colour: Colour = _BRIGHT,
    anchor: str = "la",
) -> None:
    """Write one line, cut off where the room ends."""
    font = _font(size)
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_LETTERS])
    if font.getlength(text) > room:
        while text and font.getlength(text + "...") > room:
            text = text[:-1]
        text += "..."
    draw.text(place, text, fill=colour, font=font, anchor=anchor)


def _write_upwards(image: Image.Image, place: tuple[int, int], text: str) -> None:
    """Write one line from below, centred on a place at its left edge."""
    font = _font(_TEXT)
    length = round(font.getlength(text)) + 2
    mask = Image.new("L", (length, _TEXT + 6))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    turned = mask.transpose(Image.Transpose.ROTATE_90)
    image.paste(_SOFT, (place[0], place[1] - length // 2), turned)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _even(length: int) -> int:
    return length + length % 2
