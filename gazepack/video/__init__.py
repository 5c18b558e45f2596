"""Videos in and out: probe, sample, decode, write. No other room touches a container."""

from gazepack.video.decode import Frame, Part, decode
from gazepack.video.fit import fit
from gazepack.video.parts import Cut, cut
from gazepack.video.probe import VideoInfo, probe
from gazepack.video.sampling import Sampling
from gazepack.video.source import Source
from gazepack.video.write import write_video

__all__ = [
    "Cut",
    "Frame",
    "Part",
    "Sampling",
    "Source",
    "VideoInfo",
    "cut",
    "decode",
    "fit",
    "probe",
    "write_video",
]
