"""Codecs by name: what users write, and what `dataset.json` stores."""

from collections.abc import Mapping
from typing import Any

from gazepack.errors import UsageError
from gazepack.formats.codecs.base import Codec
from gazepack.formats.codecs.jpeg import JpegCodec
from gazepack.formats.codecs.places import PlacesCodec
from gazepack.formats.codecs.png import PngCodec
from gazepack.formats.codecs.raw import RawCodec
from gazepack.formats.codecs.webp import WebpCodec
from gazepack.formats.codecs.zstd import ZstdCodec

CodecClass = type[JpegCodec] | type[ZstdCodec] | type[WebpCodec] | type[PngCodec] | type[RawCodec]
CODECS: Mapping[str, CodecClass] = {
    codec.name: codec for codec in (JpegCodec, ZstdCodec, WebpCodec, PngCodec, RawCodec)
}
"""Every codec of patches this gazepack knows."""
AnyCodec = Codec | PlacesCodec
"""What a dataset may be stored with."""


def codec_from(name: str, **settings: Any) -> Codec:
    """Return the codec of this name with these settings; the rest are its defaults.

    Raises:
        UsageError: no such codec, no such setting, or a value it does not have.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise UsageError(f"codec {name!r} does not exist", remedy=f"use {' or '.join(CODECS)}")
    known = sorted(codec().settings().keys() - {"name"})
    for setting in settings:
        if setting not in known:
            raise UsageError(
                f"codec {name!r} has no setting {setting!r}",
                remedy=f"it has {', '.join(known) or 'none'}",
            )
    return codec(**settings)


def codec_from_settings(settings: Mapping[str, Any]) -> AnyCodec:
    """Return the codec that `settings()` of it described.

    Raises:
        UsageError: as `codec_from`, or there is no name.
    """
    rest = {key: value for key, value in settings.items() if key != "name"}
    name = settings.get("name")
    if not isinstance(name, str):
        raise UsageError(f"codec settings {dict(settings)!r} do not name a codec")
    places = PlacesCodec()
    return places if settings == places.settings() else codec_from(name, **rest)
