"""What cannot be opened: one line that names the file, and never an exception of PyAV."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from gazepack.errors import VideoError
from gazepack.video import Sampling, decode, probe, source
from gazepack.video.scenes import objects
from gazepack.video.write import write_video

Ffmpeg = Callable[..., bytes]


def refused(path: object, match: str) -> None:
    for read in (probe, lambda target: list(decode(target, Sampling()))):
        with pytest.raises(VideoError, match=match) as caught:
            read(path)  # type: ignore[operator]
        assert caught.value.stage == "open"
        assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A path without a file is said to be that, also with a line break in its name."""
    refused(tmp_path / "none.mp4", r"none.mp4: no such file; check the path")
    refused(str(tmp_path / "no\nne.mp4"), r"no such file")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a git LFS pointer"),
        (b"this is only text\n" * 50, "cannot be opened"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.mp4\n", "cannot be opened"),
        (b"ffconcat version 1.0\nfile clip.mp4\n", "cannot be opened"),
        (bytes(range(256)) * 64, "cannot be opened"),
    ],
)
def test_not_a_video(clip: Path, tmp_path: Path, content: bytes, match: str) -> None:
    """Empty files, pointers, text, noise, and playlists that name other files are refused."""
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    refused(path, f"bad.mp4: {match}")
    refused(io.BytesIO(content), f"<file object>: {match}")


def test_a_folder_is_not_a_video(tmp_path: Path) -> None:
    """A folder is named as what it is."""
    refused(tmp_path, "not a regular file")


def test_audio_alone_has_no_video_stream(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    """The message lists the streams that there are."""
    path = tmp_path / "tone.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", path)
    refused(path, r"tone.mp4: no video stream \(streams: audio\)")


def test_a_cover_picture_is_no_video(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    """Music with a cover has no video stream either."""
    cover, path = tmp_path / "cover.png", tmp_path / "song.mp3"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", cover)
    tone = ("-f", "lavfi", "-i", "sine=duration=0.2")
    ffmpeg(*tone, "-i", cover, "-map", "0", "-map", "1", "-disposition:v", "attached_pic", path)
    refused(path, "song.mp3: no video stream")


def test_an_unknown_codec_is_named(clip: Path, tmp_path: Path) -> None:
    """A codec tag that nothing decodes is refused at once."""
    path = tmp_path / "unknown.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    refused(path, "unknown.mp4: ")


def test_frames_that_are_too_large_are_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame above the limits is refused before it is decoded; one at the limit is not."""
    monkeypatch.setattr(source, "MAX_SIDE", 128)
    assert probe(clip).width == 128
    monkeypatch.setattr(source, "MAX_SIDE", 127)
    refused(clip, "frames of 128 x 96 px are larger than 127 px a side")


def test_the_ending_of_the_name_does_not_matter(tmp_path: Path) -> None:
    """A Matroska file named .txt, in a name of blanks, colons and umlauts, is a video."""
    made, path = tmp_path / "made.mkv", tmp_path / "a b: file:ü%20.txt"
    write_video(made, objects(64, 48, 3), fps=10)
    made.rename(path)
    assert probe(str(path)).width == 64
    assert len(list(decode(str(path), Sampling()))) == 3
