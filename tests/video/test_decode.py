"""Decoding: times, segments, memory, deadlines and damage, on real files made here."""

import gc
import io
import math
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from gazepack.errors import VideoError
from gazepack.video import Frame, Sampling, decode, write_video
from gazepack.video.scenes import objects

EVERY = Sampling()
Ffmpeg = Callable[..., bytes]


def times(frames: list[Frame]) -> list[float]:
    return [frame.time_seconds for frame in frames]


def assert_same(expected: list[Frame], actual: list[Frame]) -> None:
    assert times(expected) == times(actual)
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_every_frame_comes_once_with_its_time(clip: Path) -> None:
    """120 frames at 30 fps give 120 frames at k / 30 seconds."""
    assert pytest.approx([k / 30 for k in range(120)]) == times(list(decode(clip, EVERY)))


def test_rate_and_number_pick_by_time(clip: Path) -> None:
    """`fps` starts at the first frame, `num_frames` takes the centres of equal parts."""
    every = times(list(decode(clip, EVERY)))
    assert every[::15] == times(list(decode(clip, Sampling(fps=2))))
    assert every[15::30] == times(list(decode(clip, Sampling(num_frames=4))))


def test_sampling_faster_than_the_video_repeats_frames(clip: Path) -> None:
    """60 samples a second of a 30 fps video show every frame twice, as one array."""
    frames = list(decode(clip, Sampling(fps=60), end_seconds=1.0))
    assert len(frames) == 60
    assert times(frames[::2]) == times(frames[1::2])
    assert frames[0].rgb_HW3 is frames[1].rgb_HW3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("open_gop.mp4", ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=30:bframes=3")),
        ("refresh.mp4", ("-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=30")),
        ("hevc.mkv", ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=30:open-gop=1")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-g", "30", "-deadline", "realtime", "-cpu-used", "8")),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-bf", "2", "-g", "30")),
        ("mpeg2.ts", ("-c:v", "mpeg2video", "-bf", "2", "-g", "30")),
        ("shifted.mp4", ("-c:v", "libx264", "-g", "30", "-output_ts_offset", "7.3")),
    ],
)
@pytest.mark.parametrize("sampling", [EVERY, Sampling(fps=7), Sampling(num_frames=5)])
def test_a_segment_equals_decoding_all_and_dropping(
    clip: Path,
    ffmpeg: Ffmpeg,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    arguments: tuple[str, ...],
    sampling: Sampling,
) -> None:
    """Seeking changes nothing: the frames of [2.5, 3.5) are those of a full decode, bit for bit."""
    path = tmp_path_factory.getbasetemp() / name
    if not path.exists():
        ffmpeg("-i", clip, *arguments, path)
    every = list(decode(path, EVERY))
    start, end = 2.5, 3.5
    if sampling == EVERY:
        expected = [frame for frame in every if start <= frame.time_seconds < end]
    else:
        step = 1 / (sampling.fps or 5)
        first = 0.0 if sampling.fps else step / 2
        wanted = [start + first + k * step for k in range(math.ceil((end - start - first) / step))]
        expected = [
            max((f for f in every if f.time_seconds <= t + 1e-3), key=lambda f: f.time_seconds)
            for t in wanted
        ]
    assert_same(expected, list(decode(path, sampling, start_seconds=start, end_seconds=end)))


def test_segments_side_by_side_lose_and_repeat_nothing(clip: Path) -> None:
    """[0, 1.3), [1.3, 2.6) and [2.6, end) hold every frame once."""
    parts = [(None, 1.3), (1.3, 2.6), (2.6, None)]
    joined = [f for s, e in parts for f in decode(clip, EVERY, start_seconds=s, end_seconds=e)]
    assert_same(list(decode(clip, EVERY)), joined)


def test_variable_frame_rate_is_sampled_by_time(clip: Path, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    """With every frame of the second half but each tenth dropped, samples still lie 0.5 s apart."""
    path = tmp_path / "variable.mkv"
    ffmpeg("-i", clip, "-vf", "select='lt(n,60)+not(mod(n,10))'", "-fps_mode", "vfr", path)
    every = times(list(decode(path, EVERY)))
    assert len(every) == 66
    sampled = times(list(decode(path, Sampling(fps=2))))
    expected = [max(t for t in every if t <= k / 2 + 1e-3) for k in range(8)]
    assert expected == sampled


def test_a_raw_stream_without_timestamps_runs_at_its_rate(
    clip: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """A .264 file gives all pictures, at equal distances."""
    path = tmp_path / "raw.264"
    ffmpeg("-i", clip, "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", path)
    frames = list(decode(path, EVERY))
    assert len(frames) == 120
    assert pytest.approx(np.diff(times(frames))[0]) == np.diff(times(frames))
    assert len(list(decode(path, Sampling(num_frames=8)))) == 8
    for one, other in zip(decode(clip, EVERY), frames, strict=True):
        np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)


def test_files_and_uris_give_what_a_path_gives(clip: Path) -> None:
    """A binary file, which stays open, and an fsspec URI decode to the same frames."""
    expected = list(decode(clip, Sampling(num_frames=6)))
    file = io.BytesIO(clip.read_bytes())
    assert_same(expected, list(decode(file, Sampling(num_frames=6))))
    assert not file.closed
    fsspec.filesystem("memory").pipe("/gazepack-test/clip.mp4", clip.read_bytes())
    assert_same(expected, list(decode("memory://gazepack-test/clip.mp4", Sampling(num_frames=6))))
    with pytest.raises(VideoError, match=r"memory://gazepack-test/none.mp4: cannot be opened"):
        list(decode("memory://gazepack-test/none.mp4", EVERY))


@pytest.mark.parametrize(("start", "end"), [(9.0, None), (9.0, 12.0), (2.0, 2.0), (-1.0, 2.0)])
@pytest.mark.parametrize("sampling", [EVERY, Sampling(fps=2), Sampling(num_frames=3)])
def test_an_empty_segment_is_an_error(
    clip: Path, sampling: Sampling, start: float, end: float | None
) -> None:
    """A segment behind the end of the video, without length or before 0 is said to be empty."""
    with pytest.raises(VideoError, match=r"clip.mp4: segment .* is empty") as caught:
        list(decode(clip, sampling, start_seconds=start, end_seconds=end))
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("sampling", [EVERY, Sampling(num_frames=3)])
def test_a_deadline_ends_the_video(clip: Path, sampling: Sampling) -> None:
    """No time at all is too little, and the message names the option; an hour is enough."""
    with pytest.raises(VideoError, match=r"not decoded within 0 s; raise --video-timeout"):
        list(decode(clip, sampling, deadline_seconds=0.0))
    assert list(decode(clip, sampling, deadline_seconds=3600.0))


@pytest.mark.parametrize("sampling", [EVERY, Sampling(fps=5), Sampling(num_frames=10)])
def test_a_truncated_file_is_an_error_after_its_frames(
    clip: Path, ffmpeg: Ffmpeg, tmp_path: Path, sampling: Sampling
) -> None:
    """Half a file gives its frames, then says how much is missing; a segment inside is whole."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", whole)
    assert list(decode(whole, sampling))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = decode(cut, sampling)
    assert list(islice(frames, 3))
    with pytest.raises(VideoError, match=r"cut.mp4: truncated: declared 4.0 s, readable [12].\d s"):
        list(frames)
    assert list(decode(cut, sampling, end_seconds=0.5))


def test_damage_in_the_middle_is_an_error(clip: Path, tmp_path: Path) -> None:
    """Overwritten data in the middle of a stream end it with one line that names the file."""
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes([0x5A]) * 4000
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    frames = decode(path, EVERY)
    assert next(frames).time_seconds == 0.0
    with pytest.raises(VideoError, match=r"damaged.mp4: ") as caught:
        list(frames)
    assert caught.value.stage == "decode"


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """After 60 frames, 840 more take under 40 MB, mostly the allocator's pools; they hold 194 MB."""
    path = tmp_path / "long.mp4"
    write_video(path, objects(320, 240, 900), fps=30, options={"preset": "ultrafast"})
    frames = decode(path, EVERY)
    assert sum(1 for _ in islice(frames, 60)) == 60
    before = resident_bytes()
    assert sum(1 for _ in frames) == 840
    assert resident_bytes() - before < 40e6


def test_frames_are_freed_as_they_go(clip: Path) -> None:
    """No decoded picture waits for the garbage collector: of many, a handful are there."""
    gc.collect()
    gc.disable()
    try:
        for frame in decode(clip, EVERY):
            assert frame.rgb_HW3.any()
            assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 8
    finally:
        gc.enable()


def test_abandoned_decoders_leave_nothing_behind(clip: Path) -> None:
    """200 decoders closed after one frame leak neither memory nor open files."""

    def abandon(count: int) -> None:
        for _ in range(count):
            frames = decode(clip, EVERY)
            next(frames)
            del frames

    abandon(50)
    before, files = resident_bytes(), open_files()
    abandon(200)
    assert files == open_files()
    assert resident_bytes() - before < 8 << 20
