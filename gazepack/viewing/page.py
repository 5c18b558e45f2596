"""One sample as a page: frames under a slider, the chosen patches to click, and its curves.

The page is one file of bounded size that fetches nothing. Each picture gets an equal part of `PICTURE_BYTES`
and is made smaller until it fits; a sample of more frames, or of very many tokens, is shown by frames spread
evenly over it, while the curves hold every frame.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gazepack.geometry import CELLS_PER_PATCH
from gazepack.jobs import Segment
from gazepack.patches import Pixels
from gazepack.viewing.charts import curve
from gazepack.viewing.drawing import MAX_PANE, SCALE_COLOURS, Shot
from gazepack.viewing.pictures import write_text
from gazepack.viewing.scene import Scene, spread
from gazepack.viewing.templates import render

PICTURE_BYTES = 9_000_000
"""Of all pictures of a page together; a third more as text."""
MAX_TOKENS = 150_000
"""Of the frames shown."""
MAX_PAGE_BYTES = 16_000_000
"""A page is never larger."""
_QUALITIES = (82, 60, 35)


def write_page(scene: Scene, out: Path, *, segment: Segment | None, frames: int) -> int:
    """Write an HTML page, and return how many frames it shows.

    Args:
        scene: the sample.
        out: the file.
        segment: the video; `None` to do without.
        frames: the most frames shown.

    Raises:
        VideoError: the video cannot be decoded or is another one. Nothing is written then.
        StorageError: `out` cannot be written.
    """
    shown = frames_shown(scene.meta["tokens"], frames)
    wanted = set(shown)
    room = PICTURE_BYTES // (len(shown) * (1 if segment is None else 2))
    listed: list[dict[str, Any]] = []
    for number, shot in enumerate(scene.shots(segment)):
        if number in wanted:
            listed.append({"index": number, **frame_data(shot, room=room)})
        if len(listed) == len(shown):
            break
    values = _values(scene, listed, has_source=segment is not None)
    write_text(out, render("sample.html", script="sample.js", values=values))
    return len(listed)


def frames_shown(tokens: Sequence[int], frames: int) -> list[int]:
    """Return which frames a page shows: at most `frames`, fewer where their tokens would be too many."""
    while True:
        shown = spread(len(tokens), frames)
        if len(shown) == 1 or sum(tokens[number] for number in shown) <= MAX_TOKENS:
            return shown
        frames = len(shown) * 3 // 4


def frame_data(shot: Shot, *, room: int) -> dict[str, Any]:
    """Return what the page's script reads of one frame.

    Args:
        shot: the frame.
        room: for each picture, in bytes.
    """
    known = not np.isnan(shot.loss_K).all()
    source = shot.source_HW3
    return {
        "time": shot.time_seconds,
        "psnr": shot.psnr,
        "l1": shot.l1,
        "scale": shot.scale_K.tolist(),
        "row": shot.row_K.tolist(),
        "col": shot.col_K.tolist(),
        "rank": shot.rank_K.tolist(),
        "loss": [_rounded(loss) for loss in shot.loss_K.tolist()] if known else None,
        "painted": data_uri(shot.painted_HW3, room=room),
        "source": None if source is None else data_uri(source, room=room),
    }


def data_uri(picture_HW3: Pixels, *, room: int, longest: int = MAX_PANE) -> str:
    """Return a picture as an address that holds it, WebP of at most `room` bytes.

    Args:
        picture_HW3: the picture.
        room: in bytes; at least 1,000.
        longest: side that it is shrunk to.
    """
    while True:
        image = Image.fromarray(picture_HW3)
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            file = io.BytesIO()
            image.save(file, format="WEBP", quality=quality, method=2)
            if file.tell() <= room:
                return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        longest //= 2


def hex_colours() -> list[str]:
    """Return the colours of the scales as CSS has them."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in SCALE_COLOURS]


def _values(scene: Scene, listed: list[dict[str, Any]], *, has_source: bool) -> Mapping[str, Any]:
    """Return what the template is filled with."""
    meta, grid = scene.meta, scene.grid
    sides = [cells * grid.patch_size // 2 for cells in CELLS_PER_PATCH]
    times, num_frames = meta["times"], scene.num_frames
    ticks = [f"{times[0]:.1f} s", f"{times[num_frames // 2]:.1f} s", f"{times[-1]:.1f} s"]
    zoom = max(1, MAX_PANE // max(grid.height, grid.width))
    few = "" if len(listed) == num_frames else f"{len(listed)} of its {num_frames} frames are shown"
    return {
        "title": scene.sample.meta["id"],
        "facts": scene.facts(),
        "note": few,
        "has_source": has_source,
        "last": len(listed) - 1,
        "scales": [
            {"colour": colour, "side": side}
            for colour, side in zip(hex_colours(), sides, strict=True)
        ],
        "tokens": curve(meta["tokens"], title="tokens of a frame", unit="tokens", ticks=ticks),
        "psnr": curve(
            meta["psnr"],
            title="PSNR of the painted frame",
            unit="dB",
            ticks=ticks,
            floor=math.floor(min(meta["psnr"])),
        ),
        "data": {
            "frames": listed,
            "num_frames": num_frames,
            "width": grid.width,
            "height": grid.height,
            "zoom": zoom,
            "sides": sides,
            "colours": hex_colours(),
        },
    }


def _rounded(loss: float) -> float | None:
    """Return a loss as JSON has it: none for one that is no number."""
    return round(loss, 4) if np.isfinite(loss) else None
