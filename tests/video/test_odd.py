"""Odd files from the wild: each gives its frames, or one line that says why not.

The counts are those of the ffmpeg program. Where it shows some pictures of a damaged file, that file
fails here: a data set should not hold half a video, or one with holes, without anybody knowing.
"""

from itertools import islice, pairwise
from pathlib import Path

import pytest

from gazepack.errors import Stage, VideoError
from gazepack.video import Sampling, decode, probe

READABLE = {
    "derived_gray_h264.mkv": 75,
    "derived_interlaced_tff.mpg": 60,
    "derived_webm_named.mp4": 300,
    "droid-dataset_28221883.mp4": 6,
    "gradio_bad_video_sample.mp4": 15,
    "gradio_playable_but_bad_container.mkv": 150,
    "media_bbb_176x144_128kbps_15fps_h263.3gp": 15,
    "media_bear-vp9-odd-dimensions.webm": 30,
    "media_dolbyVision-hdr.MOV": 4,
    "media_iibbibb_editlist_videoonly.mp4": 12,
    "media_sample-with-key-frame-index.flv": 71,
    "media_sample-with-large-length.avi": 58,
    "media_sample_h262_mpeg_audio.ps": 3,
    "media_sample_h264.ts": 30,
    "media_sample_sef_super_slow_motion.mp4": 435,
    "media_sample_vvc.mp4": 120,
    "media_sample_with_vobsub.mp4": 30,
    "media_silent-black-10s.mp4": 300,
    "media_water_180_mvhevc_5frames.mov": 5,
    "mp4parse-rust_hevc_white_frame.mp4": 1,
    "mp4parse-rust_minimal.mp4": 1,
    "mp4parse-rust_video_rotation_90.mp4": 1,
    "napari_docs_tracks_tail_width_vfr.webm": 27,
    "rlt_unordered.mov": 4,
    "rlt_video_270.mov": 3,
    "rlt_video_90.mov": 3,
    "torchcodec_av1_video.mkv": 125,
    "torchcodec_discard_first_keyframe.mp4": 25,
    "torchcodec_h265_10bits.mp4": 30,
    "torchcodec_nasa_13013_rotated.mp4": 17,
    "torchcodec_test_non_zero_start.mp4": 12,
    "torchcodec_testsrc2_12bit_hdr.mp4": 60,
    "torchcodec_testsrc2_odd_height_and_width_444_10bit.mp4": 25,
    "torchcodec_testsrc2_odd_height_and_width_mpeg2.mp4": 10,
}
BIG = {"media_long_4k_av1.mp4": 6, "media_sample_with_colr_mdcv_and_clli.mp4": 6}
"""Frames before 0.1 s."""
BROKEN: dict[str, tuple[int, Stage, str]] = {
    "DALI_extra_lfs_pointer.mp4": (0, "open", "a git LFS pointer"),
    "derived_truncated_half.mp4": (98, "decode", r"truncated: declared 6.2 s, readable 3.3 s"),
    "media_invalid-bitstream.webm": (0, "decode", "cannot be decoded"),
    "media_sample_audio_only.mp4": (0, "open", r"no video stream \(streams: audio\)"),
    "media_sample_fragmented_uuid.mp4": (0, "decode", "can(not)? be decoded"),
    "media_sample_malformed_free_box.mp4": (0, "open", "cannot be opened"),
    "media_sample_with_invalid_nalu.mp4": (26, "decode", "cannot be decoded"),
    "media_subsample_encrypted_noaltref.webm": (0, "decode", "cannot be decoded"),
    "moviepy_zero_byte.webm": (0, "open", "zero bytes"),
    "mp4parse-rust_chunk_out_of_range.mp4": (0, "open", "cannot be opened"),
    "mp4parse-rust_no_timescale.mp4": (0, "decode", "damaged picture"),
    "mp4parse-rust_test_case_1185230.mp4": (0, "decode", "no frame can be decoded"),
    "mp4parse-rust_zero_empty_stsc.mp4": (0, "decode", "no frame can be decoded"),
    "rlt_corrupted.mp4": (28, "decode", "cannot be decoded"),
}


def test_every_odd_file_is_listed(shared: Path) -> None:
    """A new file in the folder needs a line here."""
    names = {path.name for path in (shared / "clips" / "odd").iterdir()}
    assert {*READABLE, *BIG, *BROKEN} == names


@pytest.mark.parametrize("name", sorted(READABLE))
def test_odd_but_whole(shared: Path, name: str) -> None:
    """All frames come, at increasing times from 0, of the size that the probe tells."""
    path = shared / "clips" / "odd" / name
    info = probe(path)
    times = []
    for frame in decode(path, Sampling()):
        assert (info.height, info.width, 3) == frame.rgb_HW3.shape
        times.append(frame.time_seconds)
    assert READABLE[name] == len(times)
    assert times[0] == 0.0
    assert all(before < after for before, after in pairwise(times))


@pytest.mark.parametrize("name", sorted(BIG))
def test_odd_and_big(shared: Path, name: str) -> None:
    """The first tenth of a second of a large or long video comes without reading the rest."""
    frames = list(decode(shared / "clips" / "odd" / name, Sampling(), end_seconds=0.1))
    assert BIG[name] == len(frames)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_odd_and_broken(shared: Path, name: str) -> None:
    """The frames before the damage come, then one line with the name, at the stage that failed."""
    num_frames, stage, match = BROKEN[name]
    frames = decode(shared / "clips" / "odd" / name, Sampling())
    assert num_frames == sum(1 for _ in islice(frames, num_frames))
    with pytest.raises(VideoError, match=match) as caught:
        next(frames)
    assert stage == caught.value.stage
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
