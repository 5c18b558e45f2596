"""Colour, orientation and interlacing, judged by the ffmpeg program."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from gazepack.video import Sampling, decode, probe, write_video
from gazepack.video.picture import Orientation
from gazepack.video.scenes import objects, pan

Pixels = npt.NDArray[np.uint8]
Compare = Callable[[Pixels, Pixels], None]
Reference = Callable[..., Pixels]
Ffmpeg = Callable[..., bytes]


def decoded(path: Path) -> Pixels:
    return np.stack([frame.rgb_HW3 for frame in decode(path, Sampling())])


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc", "unknown"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
def test_matrix_and_range_are_undone(
    tmp_path: Path,
    ffmpeg: Ffmpeg,
    rgb_of: Reference,
    assert_close: Compare,
    matrix: str,
    range_: str,
) -> None:
    """Tagged matrices and ranges give ffmpeg's pixels, and those near the picture that was drawn."""
    path, drawn = tmp_path / "colour.mkv", list(objects(96, 64, 2))
    write_video(tmp_path / "drawn.mkv", drawn, fps=25, codec="ffv1", pixel_format="bgr0")
    out = "smpte170m" if matrix == "unknown" else matrix
    convert = f"scale=out_color_matrix={out}:out_range={range_}:flags=accurate_rnd,format=yuv444p"
    convert += ",setparams=colorspace=unknown" if matrix == "unknown" else ""
    tags = ("-colorspace", matrix, "-color_range", range_)
    ffmpeg("-i", tmp_path / "drawn.mkv", "-vf", convert, *tags, "-c:v", "libx264", "-qp", "0", path)
    actual = decoded(path)
    assert_close(actual, rgb_of(path, 64, 96))
    assert (
        np.abs(actual - np.stack(drawn).astype(int)).mean() < 1
    )  # 8-bit YUV cannot hold all of RGB
    names = {"smpte170m": "bt601", "tv": "limited", "pc": "full"}
    info = probe(path)
    expected = (names.get(matrix, matrix), names[range_])
    assert expected == (info.color_matrix, info.color_range)


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [
        ("yuv420p", "libx264"),
        ("yuv422p10le", "ffv1"),
        ("yuv420p10le", "libx264"),
        ("yuv444p12le", "ffv1"),
        ("gray", "ffv1"),
        ("gray10le", "ffv1"),
        ("yuva420p", "ffv1"),
        ("bgr0", "ffv1"),
        ("yuv410p", "ffv1"),
    ],
)
def test_pixel_formats_match_ffmpeg(
    tmp_path: Path, rgb_of: Reference, assert_close: Compare, pixel_format: str, codec: str
) -> None:
    """8, 10 and 12 bits, gray, alpha and every chroma grid give what ffmpeg gives."""
    path = tmp_path / "format.mkv"
    write_video(path, objects(96, 64, 3), fps=25, codec=codec, pixel_format=pixel_format)
    assert pixel_format == probe(path).pixel_format
    chroma = "left" if codec == "libx264" else "auto"
    assert_close(decoded(path), rgb_of(path, 64, 96, chroma))


def test_odd_sizes_match_ffmpeg(tmp_path: Path, rgb_of: Reference, assert_close: Compare) -> None:
    """A frame of 97 x 63 px keeps its last column and row."""
    path = tmp_path / "odd.mkv"
    write_video(path, objects(97, 63, 3), fps=25, codec="ffv1", pixel_format="yuv420p")
    assert_close(decoded(path), rgb_of(path, 63, 97))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_orientation_matches_ffmpeg(
    tmp_path: Path, rgb_of: Reference, assert_close: Compare, degrees: int, mirror: bool
) -> None:
    """All eight display matrices give the upright picture that ffmpeg gives."""
    path, plain = tmp_path / "turned.mp4", tmp_path / "plain.mp4"
    write_video(plain, objects(96, 64, 3), fps=25, pixel_format="yuv444p")
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees, hflip=mirror)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    info = probe(path)
    assert (mirror, (96, 64) if degrees in (0, 180) else (64, 96)) == (
        info.is_mirrored,
        (info.width, info.height),
    )
    assert_close(decoded(path), rgb_of(path, info.height, info.width))


def test_clockwise_rotation_is_numpys_rot90_backwards() -> None:
    """The angle of an orientation counts clockwise turns of the stored picture."""
    stored_HW3 = next(pan(32, 16, 1))
    turned = Orientation(transpose=True, flip_x=True)
    assert turned.rotation == 90
    np.testing.assert_array_equal(np.rot90(stored_HW3, -1), turned.upright(stored_HW3))


def test_interlaced_frames_are_deinterlaced_as_by_ffmpeg(
    tmp_path: Path, ffmpeg: Ffmpeg, assert_close: Compare
) -> None:
    """Interlaced MPEG-2 gives bwdif's frames, one for one, far from the combed ones."""
    fields, path = tmp_path / "fields.mkv", tmp_path / "interlaced.mpg"
    write_video(fields, pan(192, 96, 24), fps=50, codec="ffv1", pixel_format="yuv420p")
    encode = ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct")
    ffmpeg("-i", fields, "-vf", "tinterlace=interleave_top", *encode, path)
    bwdif = "bwdif=mode=send_frame:deint=interlaced,scale=in_chroma_loc=left"
    bwdif += ":flags=bilinear+accurate_rnd+full_chroma_int+bitexact"
    raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    expected = np.frombuffer(ffmpeg("-i", path, "-vf", bwdif, *raw), dtype=np.uint8)
    combed = np.frombuffer(ffmpeg("-i", path, *raw), dtype=np.uint8).reshape(-1, 96, 192, 3)
    actual = decoded(path)
    assert probe(path).is_interlaced
    expected = expected.reshape(-1, 96, 192, 3)
    assert_close(actual[1:], expected[1:])
    # The first frame has no predecessor, and versions of bwdif guess it differently.
    assert np.abs(actual[0].astype(int) - expected[0]).mean() < 0.5
    assert len(combed) == len(actual)
    assert np.abs(combed.astype(int) - actual).mean() > 0.5
