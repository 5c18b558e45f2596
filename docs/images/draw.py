"""Draws the README's picture again, byte for byte with the same libraries: `python docs/images/draw.py`.

Nothing in it was filmed: the video is a generated scene, packed and shown by the `gazepack` program. `greedy`
chooses, as it does so in whole numbers: the network's choice may differ between machines, and changes with it.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from gazepack.cli.main import run
from gazepack.video import write_video
from gazepack.video.scenes import objects

WIDTH, HEIGHT, FPS, NUM_FRAMES, SEED = 960, 540, 15, 48, 3
SHOWN_WIDTH = 1200
"""Of the picture, in pixels: no page shows it wider."""
SHOWN_BITS = 6
"""Of each colour: nobody sees the other two, and they are about half of the file."""
PICTURE = Path(__file__).with_name("gaze.png")


def packed_scene(folder: Path) -> Path:
    """Draw the video into a folder, pack it, and return the dataset."""
    video, packed = folder / "objects.mp4", folder / "packed"
    frames = objects(WIDTH, HEIGHT, NUM_FRAMES, SEED)
    write_video(video, frames, fps=FPS, options={"crf": "12"})
    options = ("--selector", "greedy", "--fps", 5, "--min-psnr", 34)
    gazepack("pack", video, "--out", packed, *options)
    return packed


def gazepack(*arguments: object) -> None:
    """Run a command, or end with its exit code."""
    if code := run([str(argument) for argument in arguments]):
        sys.exit(code)


def draw(packed: Path, picture: Path) -> None:
    """Draw a dataset's first sample into a file."""
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder, "gaze.png")
        gazepack("view", packed, "--out", sheet, "--frames", 3)
        with Image.open(sheet) as whole:
            size = (SHOWN_WIDTH, round(SHOWN_WIDTH * whole.height / whole.width))
            small = whole.resize(size, Image.Resampling.LANCZOS)
    ImageOps.posterize(small, SHOWN_BITS).save(picture, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(packed_scene(Path(folder)), PICTURE)
