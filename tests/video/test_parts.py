"""Parts of a long video: together they give the very frames that decoding through gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import VideoError
from gazepack.video import Frame, Part, Sampling, cut, decode, write_video
from gazepack.video.scenes import objects

EVERY = Sampling()
CLIP_FRAMES = 16
Ffmpeg = Callable[..., bytes]

FILES = {
    "b_frames.mp4": ("-c:v", "libx264", "-g", "300", "-bf", "3"),
    "open_gop.mp4": ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=40:bframes=3"),
    "hevc.mkv": ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=40:open-gop=1"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-g", "40", "-deadline", "realtime", "-cpu-used", "8"),
    "shifted.mp4": ("-c:v", "libx264", "-g", "40", "-output_ts_offset", "7.3"),
    "edited.mp4": ("-c:v", "libx264", "-g", "60", "-bf", "2"),
    "variable.mkv": ("-c:v", "libx264", "-g", "40", "-bf", "2", "-fps_mode", "vfr"),
    "variable.mp4": ("-c:v", "libx264", "-g", "40", "-bf", "2", "-fps_mode", "vfr"),
}
DROP = ("-vf", "select='lt(mod(n,60),20)+not(mod(n,3))'")
"""Leaves frames at uneven distances."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at 30 frames a second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, objects(96, 64, 300), fps=30, options={"g": "50", "bf": "3"})
    return path


@pytest.fixture(scope="module")
def files(film: Path, ffmpeg: Ffmpeg) -> Path:
    """The film in many forms."""
    for name, arguments in FILES.items():
        drop = DROP if name.startswith("variable") else ()
        begin = ("-ss", "0.7") if name == "edited.mp4" else ()
        ffmpeg(*begin, "-i", film, *drop, *arguments, film.with_name(name))
    return film.parent


def assert_same(expected: list[Frame], actual: list[Frame]) -> None:
    assert [frame.time_seconds for frame in expected] == [frame.time_seconds for frame in actual]
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)


def parts_of(
    path: Path, sampling: Sampling, start: float | None = None, end: float | None = None
) -> tuple[Part, ...]:
    found = cut(
        path,
        sampling,
        clip_frames=CLIP_FRAMES,
        longest_seconds=2.5,
        start_seconds=start,
        end_seconds=end,
    )
    return found.parts


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("sampling", [EVERY, Sampling(fps=12.5), Sampling(fps=50)])
@pytest.mark.parametrize(("start", "end"), [(None, None), (1.21, 9.17)])
def test_parts_together_are_the_whole(
    files: Path, name: str, sampling: Sampling, start: float | None, end: float | None
) -> None:
    """Every part begins with a clip, and gives the times and pixels of decoding through, bit for bit."""
    path = files / name
    whole = list(decode(path, sampling, start_seconds=start, end_seconds=end))
    parts = parts_of(path, sampling, start, end)
    assert len(parts) >= 3
    assert parts[0].first_frame == 0
    for part in parts:
        assert part.first_frame % CLIP_FRAMES == 0
        alone = list(decode(path, sampling, start_seconds=start, end_seconds=end, part=part))
        last = len(whole) if part.num_frames is None else part.first_frame + part.num_frames
        assert len(alone) >= CLIP_FRAMES
        assert_same(whole[part.first_frame : last], alone)


def test_parts_are_equal_and_no_longer_than_asked(film: Path) -> None:
    """Ten seconds in parts of at most 2.5 s are four; what is left of a clip goes with the last."""
    parts = parts_of(film, Sampling(fps=16))
    assert [part.first_frame for part in parts] == [0, 32, 64, 96]
    assert [part.num_frames for part in parts] == [32, 32, 32, None]
    assert [part.start_seconds for part in parts] == [0.0, 2.0, 4.0, 6.0]


def test_a_cut_tells_what_decoding_costs(film: Path) -> None:
    """Stored pixels of all frames of the segment, whether it is cut or not."""
    for longest in (2.5, 60.0):
        found = cut(film, EVERY, clip_frames=16, longest_seconds=longest, end_seconds=5.0)
        assert (len(found.parts) > 0) == (longest < 5)
        assert found.pixels == pytest.approx(96 * 64 * 30 * 5)


@pytest.mark.parametrize(
    ("name", "arguments", "sampling"),
    [
        ("no_index.ts", ("-c", "copy"), Sampling(fps=5)),
        ("no_index.avi", ("-c:v", "mpeg4", "-bf", "2"), EVERY),
        ("hidden.webm", ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"), EVERY),
        ("woven.mp4", ("-c:v", "libx264", "-flags", "+ilme+ildct"), EVERY),
        ("plain.mp4", ("-c", "copy"), Sampling(num_frames=100)),
    ],
)
def test_what_cannot_be_cut_with_certainty_stays_whole(
    film: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    name: str,
    arguments: tuple[str, ...],
    sampling: Sampling,
) -> None:
    """No index, hidden packets, interlaced pictures, a number of frames: no parts, and it decodes."""
    path = tmp_path / name
    ffmpeg("-i", film, *arguments, path)
    assert parts_of(path, sampling) == ()
    assert next(decode(path, sampling)).time_seconds >= 0.0


@pytest.mark.parametrize("sampling", [EVERY, Sampling(fps=10)])
def test_a_truncated_file_is_left_to_decoding(
    film: Path, ffmpeg: Ffmpeg, tmp_path: Path, sampling: Sampling
) -> None:
    """Parts never reach behind what can be read; the last one says what is missing."""
    whole, path = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", film, "-c", "copy", "-movflags", "+faststart", whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    parts = parts_of(path, sampling)
    with pytest.raises(VideoError, match=r"cut.mp4: truncated: declared 10.0 s"):
        list(decode(path, sampling, part=parts[-1] if parts else None))


def test_packets_that_promise_too_much_are_found_out(film: Path) -> None:
    """A part with another number of frames is refused, since those behind it would begin elsewhere."""
    (_, part, *_) = parts_of(film, EVERY)
    assert part.num_frames is not None
    wrong = Part(
        first_frame=part.first_frame,
        num_frames=part.num_frames + 1,
        start_seconds=part.start_seconds,
        end_seconds=part.end_seconds,
    )
    with pytest.raises(VideoError, match=r"its packets promised \d+; transcode the video, or pack"):
        list(decode(film, EVERY, part=wrong))


def test_what_is_no_video_cannot_be_cut(tmp_path: Path) -> None:
    """The error is the one of decoding."""
    path = tmp_path / "text.mp4"
    path.write_text("text")
    with pytest.raises(VideoError, match=r"text.mp4: cannot be opened"):
        parts_of(path, EVERY)
