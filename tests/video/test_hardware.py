"""Hardware decoders, as far as a machine without one can tell: layouts, refusals, falling back."""

import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
import pytest
from av.codec.hwaccel import hwdevices_available
from av.video.reformatter import VideoReformatter

from gazepack.errors import UsageError, VideoError
from gazepack.video import Sampling, decode, write_video
from gazepack.video.hardware import (
    PLANAR,
    accelerator,
    check_is_known,
    is_from_hardware,
    open_device,
    suits,
)
from gazepack.video.picture import Painter, deinterlaced
from gazepack.video.scenes import objects, pan
from gazepack.video.source import opened, opened_input

IDLE = "qsv"
"""A type of device that FFmpeg knows here, and for which PyAV's wheels have no decoder."""


def can_open(device: str) -> bool:
    try:
        open_device(device)
    except UsageError:
        return False
    return True


without_cuda = pytest.mark.skipif(can_open("cuda"), reason="there is a hardware decoder")


def frame_of(planes: list[npt.NDArray[np.generic]], width: int, layout: str) -> av.VideoFrame:
    """Make a frame of planes, each h x w values."""
    frame = av.VideoFrame(width, planes[0].shape[0], layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        rows[: len(data), : data.shape[1]] = data
        plane.update(rows.tobytes())
    return frame


def two_layouts(width: int, height: int, layout: str, seed: int) -> list[av.VideoFrame]:
    """Return one random frame as hardware and as software lay it out."""
    rng = np.random.default_rng(seed)
    half = -(-height // 2), -(-width // 2)
    depth, kind, shift = (8, np.uint8, 0) if layout == "nv12" else (10, np.uint16, 6)
    y, u, v = (
        rng.integers(0, 2**depth, shape).astype(kind) for shape in ((height, width), half, half)
    )
    shifted = [(plane << shift).astype(kind) for plane in (y, u, v)]
    colours = np.stack(shifted[1:], axis=-1).reshape(half[0], -1)
    return [
        frame_of([shifted[0], colours], width, layout),
        frame_of([y, u, v], width, PLANAR[layout]),
    ]


@pytest.mark.parametrize("layout", PLANAR)
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 5])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (161, 121), (1920, 8)])
def test_both_layouts_give_the_same_rgb(
    layout: str, color_range: int, colorspace: int, width: int, height: int
) -> None:
    """Noise in every range, matrix, depth and size: the one conversion gives the same bytes of either."""
    pictures = []
    for frame in two_layouts(width, height, layout, seed=width):
        frame.color_range, frame.colorspace = color_range, colorspace
        pictures.append(Painter("noise").rgb(frame))
    assert pictures[0].shape == (height, width, 3)
    assert pictures[0].std() > 10
    np.testing.assert_array_equal(*pictures)


def test_only_hardware_interleaves_colours() -> None:
    """A frame tells where it comes from."""
    assert [is_from_hardware(f) for f in two_layouts(64, 48, "nv12", 0)] == [True, False]


def test_interlaced_frames_of_either_layout_are_the_same(
    tmp_path: Path, ffmpeg: Callable[..., bytes]
) -> None:
    """Frames that hardware interleaves leave the deinterlacer as those of software do."""
    fields, path = tmp_path / "fields.mkv", tmp_path / "interlaced.mpg"
    write_video(fields, pan(192, 96, 12), fps=50, codec="ffv1", pixel_format="yuv420p")
    encode = ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct")
    ffmpeg("-i", fields, "-vf", "tinterlace=interleave_top", *encode, path)
    pictures = []
    for layout in ("yuv420p", "nv12"):
        with av.open(str(path)) as container:
            frames = [
                VideoReformatter().reformat(frame, format=layout)
                for frame in container.decode(video=0)
            ]
        assert all(frame.interlaced_frame for frame in frames)
        woven = deinterlaced(enumerate(frames), "fields")
        pictures.append(np.stack([Painter("fields").rgb(frame) for _, frame in woven]))
    np.testing.assert_array_equal(*pictures)


def test_a_device_without_a_decoder_falls_back(clip: Path) -> None:
    """A stream that the device cannot decode gives the frames of the CPU, which say so."""
    assert IDLE in hwdevices_available()
    expected, actual = (
        list(decode(clip, Sampling(fps=10.0), device=device)) for device in ("cpu", IDLE)
    )
    assert len(actual) > 30
    for a, b in zip(expected, actual, strict=True):
        assert a.time_seconds == b.time_seconds
        assert not b.is_from_hardware
        np.testing.assert_array_equal(a.rgb_HW3, b.rgb_HW3)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(fps=10.0), Sampling(num_frames=7)])
def test_frames_as_hardware_gives_them_are_the_same(
    clip: Path, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that lays out every frame as hardware does gives the same times and bytes, and says so."""
    expected = list(decode(clip, sampling, start_seconds=0.5))
    room = sys.modules[decode.__module__]
    in_software = room.decoded

    def in_hardware(*arguments: Any) -> Generator[av.VideoFrame]:
        for frame in in_software(*arguments):
            yield VideoReformatter().reformat(frame, format="nv12")

    monkeypatch.setattr(room, "decoded", in_hardware)
    actual = list(decode(clip, sampling, start_seconds=0.5))
    assert len(actual) >= 7
    for a, b in zip(expected, actual, strict=True):
        assert (a.time_seconds, a.is_from_hardware) == (b.time_seconds, not b.is_from_hardware)
        np.testing.assert_array_equal(a.rgb_HW3, b.rgb_HW3)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "is_suited"),
    [
        ("libx264", "yuv420p", True),
        ("libx265", "yuv420p10le", True),
        ("libvpx-vp9", "yuv420p", True),
        ("libx264", "yuv444p", False),  # hardware that decodes it lays it out in its own way
        ("mpeg4", "yuv420p", False),  # its inverse transform leaves a decoder some choice
        ("ffv1", "yuv420p", False),
    ],
)
def test_only_exact_codecs_are_decoded_elsewhere(
    codec: str, pixel_format: str, is_suited: bool, tmp_path: Path
) -> None:
    """CUDA is offered what it decodes to the very planes that software gives."""
    path = tmp_path / "some.mkv"
    write_video(path, objects(64, 48, 4), fps=5, codec=codec, pixel_format=pixel_format)
    with opened_input(path) as source, opened(source) as video:
        assert suits(video.stream, "cuda:1") is is_suited
        assert not suits(video.stream, IDLE)


@without_cuda
def test_a_device_that_cannot_be_opened_is_refused(clip: Path) -> None:
    """Before a run with a line of our own; a single video is a failure like any other."""
    with pytest.raises(UsageError, match=r"decode device cuda cannot be opened here \(.+\)"):
        open_device("cuda")
    with pytest.raises(VideoError, match="cannot be opened") as caught:
        next(decode(clip, Sampling(), device="cuda"))
    assert caught.value.stage == "open"


@without_cuda
def test_what_cannot_go_there_needs_no_device(tmp_path: Path) -> None:
    """A video of another codec is decoded though the device is not there."""
    path = tmp_path / "old.avi"
    write_video(path, objects(64, 48, 4), fps=5, codec="mpeg4", pixel_format="yuv420p")
    assert len(list(decode(path, Sampling(), device="cuda"))) == 4


def test_an_unknown_device_is_refused_with_what_there_is() -> None:
    """The remedy names the devices of this build."""
    with pytest.raises(UsageError, match="'abacus:1' is not in this build of PyAV") as caught:
        check_is_known("abacus:1")
    assert caught.value.remedy is not None
    assert {"cpu", *hwdevices_available()} <= set(
        caught.value.remedy.removeprefix("use one of: ").split(", ")
    )


def test_a_device_without_any_decoder_is_refused() -> None:
    """FFmpeg knows more devices than PyAV has decoders for."""
    with pytest.raises(UsageError, match=f"decode device {IDLE}: .* has no decoder on it"):
        open_device(IDLE)


def test_which_device_is_told() -> None:
    """`cuda:1` is the second one."""
    assert accelerator("cuda:1").device_id == 1
    assert accelerator("cuda").device_id == 0
