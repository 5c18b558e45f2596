import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gazepack.formats import DatasetDirectory
from gazepack.viewing import Scene, find_segment, write_page
from gazepack.viewing.page import (
    MAX_PAGE_BYTES,
    MAX_TOKENS,
    PICTURE_BYTES,
    data_uri,
    frames_shown,
)
from gazepack.viewing.templates import render


def data_of(page: Path) -> dict:
    """The JSON that the page's script reads."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])


def decoded(uri: str) -> Image.Image:
    """The picture of an address."""
    assert uri.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_a_page_holds_every_token_of_its_frames(
    packed: DatasetDirectory, scene: Scene, tmp_path: Path
) -> None:
    """Places, ranks, losses, times and errors on the page are those of the sample, frame by frame."""
    out = tmp_path / "page.html"
    segment = find_segment(packed, scene.sample.meta["id"], ())
    assert write_page(scene, out, segment=segment, frames=96) == scene.num_frames
    frames = data_of(out)["frames"]
    assert [frame["index"] for frame in frames] == list(range(scene.num_frames))
    for frame, shot in zip(frames, scene.shots(segment), strict=True):
        assert (frame["time"], frame["psnr"], frame["l1"]) == (
            shot.time_seconds,
            shot.psnr,
            shot.l1,
        )
        for name in ("scale", "row", "col", "rank"):
            assert frame[name] == getattr(shot, f"{name}_K").tolist()
        assert frame["loss"] == pytest.approx(shot.loss_K.astype(float).tolist(), abs=1e-3)
        for name in ("source", "painted"):
            picture = np.asarray(decoded(frame[name]).convert("RGB")).astype(int)
            assert abs(picture - getattr(shot, f"{name}_HW3")).mean() < 6  # what WebP loses


def test_without_the_video_there_are_two_panes(scene: Scene, tmp_path: Path) -> None:
    """No picture of a source is on the page, and no frame says it has one."""
    write_page(scene, tmp_path / "page.html", segment=None, frames=3)
    assert [frame["index"] for frame in data_of(tmp_path / "page.html")["frames"]] == [0, 6, 13]
    assert all(frame["source"] is None for frame in data_of(tmp_path / "page.html")["frames"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 2
    assert "3 of its 20 frames are shown" in page


def test_losses_that_no_selector_predicted_are_not_made_up(scene: Scene, tmp_path: Path) -> None:
    """Where all losses are NaN the page has none."""
    unknown = scene.sample.loss_N.copy()
    scene.sample.loss_N[:] = np.nan
    try:
        write_page(scene, tmp_path / "page.html", segment=None, frames=2)
    finally:
        scene.sample.loss_N[:] = unknown
    assert all(frame["loss"] is None for frame in data_of(tmp_path / "page.html")["frames"])


def test_names_cannot_leave_their_place(scene: Scene, tmp_path: Path) -> None:
    """Markup in an id is escaped in the page; the only scripts are the data and our own."""
    write_page(scene, tmp_path / "page.html", segment=None, frames=1)
    page = (tmp_path / "page.html").read_text()
    assert "&lt;/script&gt;&lt;script&gt;window.hacked" in page
    assert "<script>window.hacked" not in page
    assert page.count("<script") == 2
    assert "http:" not in page
    assert "https:" not in page


def test_data_cannot_close_their_element() -> None:
    """JSON for the script has no bracket that the HTML parser would see."""
    values = {"title": "", "facts": "", "note": "", "has_source": False, "last": 0, "scales": []}
    plot = {"title": "", "top": "", "bottom": "", "ticks": [], "says": "", "bars": []}
    plot |= {"line": "", "band": ""}
    page = render(
        "sample.html",
        script="sample.js",
        values={**values, "tokens": plot, "psnr": plot, "data": {"x": "</script><b>&'\""}},
    )
    assert "\\u003c/script\\u003e\\u003cb\\u003e\\u0026\\u0027" in page


def test_a_page_is_bounded() -> None:
    """Pictures shrink until they fit their room; frames are left out where tokens are too many."""
    noise = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    for room in (200_000, 20_000, 1_000):
        uri = data_uri(noise, room=room)
        assert len(uri) <= room * 4 / 3 + 30
        assert decoded(uri).width >= 8
    assert frames_shown([10] * 500, 96) == [number * 500 // 96 for number in range(96)]
    many = frames_shown([12_000] * 500, 96)
    assert 1 < len(many) <= MAX_TOKENS // 12_000
    assert frames_shown([65_535], 96) == [0]
    # a token takes at most 30 letters, the rest of the page less than a megabyte
    assert PICTURE_BYTES * 4 / 3 + MAX_TOKENS * 20 + 1_000_000 <= MAX_PAGE_BYTES
