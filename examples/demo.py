"""From nothing to a dataset and a picture of its gaze: `make demo`, or `python examples/demo.py [FOLDER]`.

Four short videos are drawn, packed with the `gazepack` program as anyone would, counted and shown. Running it
again finds the work done. What is drawn is easier than what a camera sees: do not quote its reduction.
"""

import sys
from pathlib import Path

from gazepack.cli.main import run
from gazepack.video import write_video
from gazepack.video.scenes import SCENES

WIDTH, HEIGHT, FPS, NUM_FRAMES = 640, 360, 15, 32
MIN_PSNR = 34
SHOWN = "objects.mp4"


def main(folder: Path = Path("demo")) -> int:
    """Make the demonstration in a folder, and return the exit code of the first command that failed, or 0."""
    videos, packed, picture = folder / "videos", folder / "packed", folder / "gaze.png"
    make_videos(videos)
    for arguments in (
        ["pack", str(videos), "--out", str(packed), "--min-psnr", str(MIN_PSNR)],
        ["view", str(packed), SHOWN, "--out", str(picture)],
    ):
        print(f"$ gazepack {' '.join(arguments)}", flush=True)
        code = run(arguments)
        if code:
            return code
    print(f"\nThe dataset is in {packed}, a picture of its gaze in {picture}.")
    print(f"Look into it: gazepack view {packed} {SHOWN} --out {folder / 'look.html'}")
    print(f"Next: gazepack verify {packed} --source {videos}")
    print("And your own: gazepack pack YOUR_VIDEOS/ --out packed/")
    return 0


def make_videos(folder: Path) -> None:
    """Draw the videos that are not there yet, one of each kind of scene."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, scene) in enumerate(SCENES.items()):
        path = folder / f"{name}.mp4"
        if not path.exists():
            write_video(path, scene(WIDTH, HEIGHT, NUM_FRAMES, seed), fps=FPS)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
