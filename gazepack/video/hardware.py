"""Decoders that are a piece of hardware, such as the one beside the cores of a GPU, by way of FFmpeg.

Only codecs whose decoding is exact by specification go there (`EXACT`): hardware then gives the very planes
that software gives, and the one conversion to RGB (`picture`) gives the same bytes of either layout of them.
Any other stream is decoded by the CPU, and the frames say so. AV1 is one of these for now: FFmpeg prefers
dav1d for it, which knows no hardware.

What it gives up: software notices damage inside of a picture, hardware may show it. And the frames come back
to the host to be converted there, so what is saved is decoding alone.
"""

import av
import av.codec
import av.error
import av.video
from av.codec.hwaccel import HWAccel, hwdevices_available

from gazepack.errors import UsageError

CPU = "cpu"
"""The decode device that is none of these."""
EXACT = ("h264", "hevc", "vp8", "vp9", "av1")
"""FFmpeg's names of codecs with a specification that leaves a decoder no choice."""
PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""How hardware lays out a frame, the two planes of colour interleaved, and how software does."""
_FORMATS = ("yuv420p", "yuvj420p", "yuv420p10le")
"""Streams whose frames hardware gives in one of these."""


def accelerator(device: str) -> HWAccel:
    """Return what PyAV opens a container with.

    Args:
        device: FFmpeg's name of a type of device, and which one of them if not the first: cuda, cuda:1.
    """
    kind, _, which = device.partition(":")
    # CUDA: the context of the process, so that each video does not make one
    options: dict[str, object] = {"primary_ctx": "1"} if kind == "cuda" else {}
    return HWAccel(kind, device=which or None, allow_software_fallback=True, options=options)


def open_device(device: str) -> HWAccel:
    """Open a device for decoding; it stays open as long as what is returned.

    Raises:
        UsageError: it cannot be.
    """
    check_is_known(device)
    kind = device.partition(":")[0]
    codec = next((codec for codec in map(_decoder, EXACT) if kind in _kinds(codec)), None)
    if codec is None:
        raise UsageError(
            f"decode device {device}: this build of PyAV has no decoder on it",
            remedy="use --decode-device cpu",
        )
    try:
        return accelerator(device).create(codec)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"decode device {device} cannot be opened here ({reason})",
            remedy="check that its driver is there (cuda: nvidia-smi), or use --decode-device cpu",
        ) from None


def check_is_known(device: str) -> None:
    """Refuse a device that this build of PyAV has never heard of; whether there is one, is not asked.

    Raises:
        UsageError: it has not.
    """
    there = hwdevices_available()
    if device.partition(":")[0] not in there:
        raise UsageError(
            f"decode device {device!r} is not in this build of PyAV",
            remedy=f"use one of: {', '.join((CPU, *there))}",
        )


def suits(stream: av.video.VideoStream, device: str) -> bool:
    """Return whether a stream is to be decoded on a device: exactly, and by a decoder that can use it."""
    context = stream.codec_context
    is_exact = context.codec.canonical_name in EXACT and context.pix_fmt in _FORMATS
    return is_exact and device.partition(":")[0] in _kinds(context.codec)


def is_from_hardware(frame: av.VideoFrame) -> bool:
    """Return whether hardware decoded a frame; no software decoder of `EXACT` lays out a frame so."""
    return frame.format.name in PLANAR


def _decoder(name: str) -> av.codec.Codec:
    return av.codec.Codec(name, "r")


def _kinds(codec: av.codec.Codec) -> set[str]:
    """Return the devices that a decoder of FFmpeg can use."""
    return {config.device_type.name for config in codec.hardware_configs if config.is_supported}
