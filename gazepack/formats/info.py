"""What a dataset is: its version, geometry, codec and provenance, in `dataset.json`.

Two datasets are the same when everything but `writer` is equal; only then may one directory hold
both.
"""

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gazepack import __version__
from gazepack.errors import DatasetError, FormatVersionError, ProvenanceError
from gazepack.formats.codecs import AnyCodec, PlacesCodec, codec_from_settings
from gazepack.formats.containers import CONTAINERS
from gazepack.formats.meta import FORMAT_VERSION, canonical_json, describe, parse_json
from gazepack.formats.shard import Container
from gazepack.geometry import CLIP_FRAMES, SCALE_SIDES, check_patch_size

INFO_NAME = "dataset.json"
MOST_DEPTH = 64
"""How deep the provenance may nest."""
_NOT_COMPARED = frozenset({"writer"})
_RESTORE = "restore it from a copy: nothing changes it once it is written"


class DatasetInfo(BaseModel):
    """The content of `dataset.json`; `docs/format.md`, section 2.

    Raises:
        ValidationError: a value that no dataset can have (a `ValueError`).
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    format: Literal["gazepack"] = "gazepack"
    """Says that this is a dataset of ours."""
    format_version: Literal[1] = 1
    """The version of the directory."""
    writer: str = f"gazepack {__version__}"
    """Who wrote it; not compared."""
    container: Literal["webdataset", "arrow"] = "webdataset"
    """What the shards are."""
    codec: dict[str, Any]
    """`settings()` of what encodes the patches, or their places where they are not stored."""
    patch_size: int
    """Side of every patch, in pixels."""
    clip_frames: int = Field(default=CLIP_FRAMES, ge=1)
    """Frames after which the canvas starts anew."""
    scale_sides: tuple[int, ...] = SCALE_SIDES
    """Patches along one side of a tile, per scale."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Free JSON: selector, sampling, fit, model hash, bounds."""

    @field_validator("codec")
    @classmethod
    def _codec_exists(cls, value: dict[str, Any]) -> dict[str, Any]:
        return codec_from_settings(value).settings()

    @field_validator("patch_size")
    @classmethod
    def _patch_size_fits(cls, value: int) -> int:
        check_patch_size(value)
        return value

    @field_validator("scale_sides")
    @classmethod
    def _known_scales(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value != SCALE_SIDES:
            raise ValueError(f"scale sides {list(value)} are not {list(SCALE_SIDES)}")
        return value

    @field_validator("provenance")
    @classmethod
    def _plain_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(canonical_json(value))
        if _depth(plain) > MOST_DEPTH:
            raise ValueError(f"it nests deeper than {MOST_DEPTH} levels")
        return plain

    def make_container(self) -> Container:
        """Return the container of the shards."""
        return CONTAINERS[self.container]

    def make_codec(self) -> AnyCodec:
        """Return what encodes the patches, or their places."""
        return codec_from_settings(self.codec)

    @property
    def stores_patches(self) -> bool:
        """Whether patches are stored; else they must be cut from the videos."""
        return self.codec != PlacesCodec().settings()

    def to_json(self) -> bytes:
        """Return the bytes of `dataset.json`."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, indent=2, ensure_ascii=False
        )
        return f"{text}\n".encode()

    @classmethod
    def from_json(cls, data: bytes, *, place: str = INFO_NAME) -> Self:
        """Return the checked content of a `dataset.json`.

        Raises:
            FormatVersionError: a newer gazepack wrote it.
            DatasetError: it is damaged, or not ours.
        """
        try:
            value = parse_json(data)
        except DatasetError as error:
            raise DatasetError(error.problem, place=place, remedy=_RESTORE) from error
        if not isinstance(value, dict) or value.get("format") != "gazepack":
            raise DatasetError('it does not say "format": "gazepack"', place=place)
        version = value.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FormatVersionError(
                f"format version {version} is newer than {FORMAT_VERSION}, the newest this "
                "gazepack knows",
                place=place,
                remedy="update gazepack",
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise DatasetError(describe(error), place=place, remedy=_RESTORE) from error

    def differences(self, other: Self) -> list[str]:
        """Return what differs, one line a setting, our value first; `writer` is not compared."""
        ours, theirs = (
            info.model_dump(mode="json", exclude=set(_NOT_COMPARED)) for info in (self, other)
        )
        return [
            f"{name}: {mine} in the dataset, {asked} asked"
            for name, mine, asked in _differing(ours, theirs, "")
        ]

    def check_same(self, other: Self, *, uri: str) -> None:
        """Refuse another dataset than this one, which lies at `uri`.

        Raises:
            ProvenanceError: something but `writer` differs; both sides are shown.
        """
        if differences := self.differences(other):
            raise ProvenanceError(
                f"{uri} holds a dataset of other settings: {'; '.join(differences)}",
                remedy="use its settings, or choose another place",
            )


def _depth(value: Any) -> int:
    """Return how deep a JSON value nests; a number is 0."""
    depth, level = 0, [value]
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
    return depth


def _differing(mine: Any, asked: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, one value, other value) of every leaf that differs."""
    if not (isinstance(mine, dict) and isinstance(asked, dict)):
        if mine != asked:
            yield name, repr(mine), repr(asked)
        return
    for key in sorted(mine.keys() | asked.keys()):
        inner = f"{name}.{key}" if name else key
        if key not in mine:
            yield inner, "nothing", repr(asked[key])
        elif key not in asked:
            yield inner, repr(mine[key]), "nothing"
        else:
            yield from _differing(mine[key], asked[key], inner)
