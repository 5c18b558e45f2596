"""Generated scenes that look like something: for the demonstration, the tests and training.

Each scene is a function of (size, length, seed) alone and yields H x W x 3 uint8 pictures one at a
time. `objects` is a fixed camera over a textured wall with moving things, `pan` a camera that travels
over a large still, `cuts` hard cuts between such pictures, and `screen` a terminal in which text is
typed and scrolls. Between them they hold what a selector has to tell apart: nothing new, everything
shifted, everything new, and a few new letters.

    legend   H, W  height and width in pixels; T  frames
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gazepack.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Scene = Callable[[int, int, int, int], Iterator[Pixels]]

_PALETTES = (
    ((24, 38, 64), (86, 124, 148), (226, 198, 146)),
    ((44, 24, 40), (150, 68, 66), (244, 190, 110)),
    ((18, 46, 40), (74, 122, 84), (222, 216, 160)),
    ((36, 34, 58), (112, 92, 150), (236, 196, 200)),
)
_ACCENTS = ((232, 74, 62), (250, 196, 58), (58, 160, 206), (240, 240, 232), (92, 190, 120))
_TEXT = (
    "frame patch scale token gaze pack shard index loss seed video clip tile canvas reads writes"
    " skips keeps counts finds moves holds every only few first last bright still again"
)


def _value_noise(height: int, width: int, cell: int, random: np.random.Generator) -> Floats:
    """Return smooth noise, H x W in 0..1: a lattice of random values, `cell` pixels apart."""
    lattice = random.random((height // cell + 2, width // cell + 2))
    down, across = np.arange(height) / cell, np.arange(width) / cell
    row, col = down.astype(np.int64), across.astype(np.int64)
    y = (down - row)[:, None]
    x = (across - col)[None, :]
    y, x = y * y * (3 - 2 * y), x * x * (3 - 2 * x)
    top = lattice[row][:, col] * (1 - x) + lattice[row][:, col + 1] * x
    bottom = lattice[row + 1][:, col] * (1 - x) + lattice[row + 1][:, col + 1] * x
    return np.asarray(top * (1 - y) + bottom * y)


def _still(height: int, width: int, random: np.random.Generator) -> Pixels:
    """Return a landscape of layered noise in one palette, H x W x 3."""
    noise_HW = np.zeros((height, width))
    for octave in range(4):
        cell = max(2, min(height, width) >> (octave + 1))
        noise_HW += _value_noise(height, width, cell, random) / 2**octave
    sky_HW = np.linspace(0, 1, height)[:, None] * 0.6 + noise_HW / noise_HW.max() * 0.6
    level_HW1 = np.clip(sky_HW, 0, 1)[:, :, None] * 2
    low, middle, high = np.asarray(_PALETTES[random.integers(len(_PALETTES))], dtype=np.float64)
    low_part_HW3 = low + (middle - low) * np.minimum(level_HW1, 1)
    still_HW3 = low_part_HW3 + (high - middle) * np.maximum(level_HW1 - 1, 0)
    picture = Image.fromarray(np.rint(still_HW3).astype(np.uint8))
    _add_shapes(picture, random, count=6)
    return np.asarray(picture)


def _add_shapes(picture: Image.Image, random: np.random.Generator, *, count: int) -> None:
    """Draw discs and boards, so that there are edges at all places."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for _ in range(count):
        side = int(
            random.integers(max(3, min(width, height) // 12), max(4, min(width, height) // 4))
        )
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        colour = _ACCENTS[random.integers(len(_ACCENTS))]
        if random.random() < 0.5:
            draw.ellipse((x, y, x + side, y + side), fill=colour)
        else:
            draw.rectangle((x, y, x + side, y + side // 2), fill=colour, outline=(20, 20, 24))


def objects(width: int, height: int, num_frames: int, seed: int = 0) -> Iterator[Pixels]:
    """Yield a fixed camera: a textured wall, three discs that travel in loops, and a turning bar."""
    _check(width, height, num_frames)
    random = np.random.default_rng(seed)
    wall = Image.fromarray(_still(height, width, random))
    phases = random.random((3, 2)) * 2 * math.pi
    speeds = 0.02 + 0.05 * random.random((3, 2))
    size = min(width, height)
    for t in range(num_frames):
        picture = wall.copy()
        draw = ImageDraw.Draw(picture)
        for k in range(3):
            x = width * (0.5 + 0.4 * math.sin(phases[k, 0] + speeds[k, 0] * t))
            y = height * (0.5 + 0.4 * math.sin(phases[k, 1] + speeds[k, 1] * t))
            radius = size * (0.05 + 0.025 * k)
            box = (round(x - radius), round(y - radius), round(x + radius), round(y + radius))
            draw.ellipse(box, fill=_ACCENTS[k], outline=(16, 16, 20), width=max(1, size // 120))
        turn = 0.04 * t
        dx, dy = size * 0.12 * math.cos(turn), size * 0.12 * math.sin(turn)
        ends = (width / 2 - dx, height / 2 - dy, width / 2 + dx, height / 2 + dy)
        draw.line([round(end) for end in ends], fill=(250, 250, 246), width=max(2, size // 40))
        yield np.asarray(picture)


def pan(width: int, height: int, num_frames: int, seed: int = 0) -> Iterator[Pixels]:
    """Yield a camera that travels to the right and back over a still three screens wide."""
    _check(width, height, num_frames)
    still_HW3 = _still(height, 3 * width, np.random.default_rng(seed))
    step = max(1, width // 80)
    for t in range(num_frames):
        x = (t * step) % (4 * width)
        x = min(x, 4 * width - x)
        yield np.ascontiguousarray(still_HW3[:, x : x + width])


def cuts(width: int, height: int, num_frames: int, seed: int = 0) -> Iterator[Pixels]:
    """Yield hard cuts: every 24 frames another still, with a slow drift inside each shot."""
    _check(width, height, num_frames)
    shot_HW3 = np.empty((0, 0, 3), dtype=np.uint8)
    for t in range(num_frames):
        if t % 24 == 0:
            shot_HW3 = _still(height, width + 12, np.random.default_rng((seed, t // 24)))
        x = (t % 24) // 2
        yield np.ascontiguousarray(shot_HW3[:, x : x + width])


def screen(width: int, height: int, num_frames: int, seed: int = 0) -> Iterator[Pixels]:
    """Yield a terminal: a letter or two per frame is typed, and full screens scroll by one line."""
    _check(width, height, num_frames)
    random = np.random.default_rng(seed)
    size = max(8, height // 16)
    font = ImageFont.load_default(size)
    pitch = size + size // 3
    columns, rows = max(4, int(width / (0.62 * size)) - 2), max(1, (height - 2 * size) // pitch)
    words = _TEXT.split()
    lines, pending = [""], ""
    for _ in range(num_frames):
        for _ in range(2):
            pending = pending or str(random.choice(words)) + " "
            if len(lines[-1]) + len(pending) > columns and lines[-1].endswith(" "):
                lines = [*lines, ""][-rows:]
            lines[-1] += pending[0]
            pending = pending[1:]
        picture = Image.new("RGB", (width, height), (18, 22, 30))
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, width, size), fill=(52, 62, 84))
        for row, line in enumerate(lines):
            place = (size // 2, size + size // 2 + row * pitch)
            draw.text(place, line, font=font, fill=(214, 226, 214))
        x = round(size // 2 + draw.textlength(lines[-1], font=font))
        y = size + size // 2 + (len(lines) - 1) * pitch
        draw.rectangle((x, y, x + size // 2, y + size), fill=(250, 196, 58))
        yield np.asarray(picture)


def grainy(frames: Iterator[Pixels], sigma: float, seed: int = 0) -> Iterator[Pixels]:
    """Yield frames with Gaussian film grain of `sigma` levels, new in each frame."""
    for t, rgb_HW3 in enumerate(frames):
        grain_HW1 = np.random.default_rng((seed, t)).normal(0, sigma, (*rgb_HW3.shape[:2], 1))
        yield np.clip(np.rint(rgb_HW3 + grain_HW1), 0, 255).astype(np.uint8)


def _check(width: int, height: int, num_frames: int) -> None:
    if min(width, height) < 16 or num_frames < 1:
        raise UsageError(
            f"a scene of {width} x {height} px and {num_frames} frames",
            remedy="ask for at least 16 x 16 px and one frame",
        )


SCENES: dict[str, Scene] = {"objects": objects, "pan": pan, "cuts": cuts, "screen": screen}
"""The scenes by name."""
