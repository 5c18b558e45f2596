"""A sample as a sheet of some frames (PNG) or a film of all (MP4), and files that appear only when whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from gazepack.errors import StorageError
from gazepack.jobs import Segment
from gazepack.patches import Pixels
from gazepack.video import write_video
from gazepack.viewing.drawing import Shot, sheet, strip
from gazepack.viewing.scene import Scene, spread

MAX_FPS = 60.0


def write_sheet(scene: Scene, out: Path, *, segment: Segment | None, frames: int) -> int:
    """Write a PNG of some frames, evenly spread, and return how many.

    Args:
        scene: the sample.
        out: the file.
        segment: the video; `None` to do without.
        frames: the most frames.

    Raises:
        VideoError: the video cannot be decoded or is another one. Nothing is written then.
        StorageError: `out` cannot be written.
    """
    shots = shots_at(scene, spread(scene.num_frames, frames), segment=segment)
    write_png(out, sheet(shots, title=scene.sample.meta["id"], facts=scene.facts()))
    return len(shots)


def shots_at(scene: Scene, shown: list[int], *, segment: Segment | None) -> list[Shot]:
    """Return the frames of these ascending numbers, painting and decoding no frame behind the last."""
    shots: list[Shot] = []
    for number, shot in enumerate(scene.shots(segment)):
        if number in shown:
            shots.append(shot)
        if len(shots) == len(shown):
            break
    return shots


def write_film(scene: Scene, out: Path, *, segment: Segment | None) -> int:
    """Write an MP4 of all frames, and return how many; the errors are those of `write_sheet`."""
    title = scene.sample.meta["id"]
    pictures = (strip(shot, title=title) for shot in scene.shots(segment))
    fps = film_fps(scene.meta["times"])
    write_video(out, pictures, fps=fps, options={"crf": "20", "preset": "veryfast"})
    return scene.num_frames


def film_fps(times: list[float]) -> float:
    """Return the average rate of frames at these times; 1 where there is only one."""
    seconds = times[-1] - times[0]
    return min(MAX_FPS, (len(times) - 1) / seconds) if seconds > 0 else 1.0


def write_png(out: Path, picture_HW3: Pixels) -> None:
    """Write a picture; it appears under its name only when it is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    with _appearing(out) as partial:
        Image.fromarray(picture_HW3).save(partial, format="PNG")


def write_text(out: Path, text: str) -> None:
    """Write a page; it appears under its name only when it is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    with _appearing(out) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")  # names need not be UTF-8


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Give a file beside `out` that takes its place at the end."""
    partial = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        yield partial
        partial.replace(out)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written ({error.strerror or error})",
            remedy="check the folder, its space and rights",
        ) from error
    finally:
        with suppress(OSError):  # what could not be made cannot be removed
            partial.unlink()
