"""Draws the README's picture again, byte for byte with the same libraries: `python docs/images/draw.py`.

Nothing in it was filmed: the video is a generated scene, packed and shown by the `gazepack` program.
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


def main(picture: Path = PICTURE) -> int:
    """Draw it into a file, and return the exit code of the first command that failed, or 0."""
    with tempfile.TemporaryDirectory() as folder:
        video, packed = Path(folder, "objects.mp4"), Path(folder, "packed")
        sheet = Path(folder, "gaze.png")
        frames = objects(WIDTH, HEIGHT, NUM_FRAMES, SEED)
        write_video(video, frames, fps=FPS, options={"crf": "12"})
        packing = ["pack", str(video), "--out", str(packed), "--fps", "5", "--min-psnr", "34"]
        viewing = ["view", str(packed), "--out", str(sheet), "--frames", "3"]
        code = run(packing) or run(viewing)
        if code == 0:
            with Image.open(sheet) as whole:
                size = (SHOWN_WIDTH, round(SHOWN_WIDTH * whole.height / whole.width))
                small = whole.resize(size, Image.Resampling.LANCZOS)
            ImageOps.posterize(small, SHOWN_BITS).save(picture, optimize=True)
        return code


if __name__ == "__main__":
    sys.exit(main())
