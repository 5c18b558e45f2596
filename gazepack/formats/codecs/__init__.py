"""Codecs: how patches become bytes, or the places of patches that are not stored."""

from gazepack.formats.codecs.base import Codec
from gazepack.formats.codecs.jpeg import JpegCodec
from gazepack.formats.codecs.places import PlacesCodec
from gazepack.formats.codecs.png import PngCodec
from gazepack.formats.codecs.raw import RawCodec
from gazepack.formats.codecs.registry import CODECS, AnyCodec, codec_from, codec_from_settings
from gazepack.formats.codecs.webp import WebpCodec
from gazepack.formats.codecs.zstd import ZstdCodec

__all__ = [
    "CODECS",
    "AnyCodec",
    "Codec",
    "JpegCodec",
    "PlacesCodec",
    "PngCodec",
    "RawCodec",
    "WebpCodec",
    "ZstdCodec",
    "codec_from",
    "codec_from_settings",
]
