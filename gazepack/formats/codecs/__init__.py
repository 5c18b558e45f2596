"""Patch codecs: how pixels become bytes."""

from gazepack.formats.codecs.base import Codec
from gazepack.formats.codecs.jpeg import JpegCodec
from gazepack.formats.codecs.png import PngCodec
from gazepack.formats.codecs.raw import RawCodec
from gazepack.formats.codecs.registry import CODECS, codec_from, codec_from_settings
from gazepack.formats.codecs.webp import WebpCodec
from gazepack.formats.codecs.zstd import ZstdCodec

__all__ = [
    "CODECS",
    "Codec",
    "JpegCodec",
    "PngCodec",
    "RawCodec",
    "WebpCodec",
    "ZstdCodec",
    "codec_from",
    "codec_from_settings",
]
