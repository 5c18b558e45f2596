"""A sample's metadata: what its JSON must hold, and its one canonical spelling.

The model checks a plain dictionary and hands the dictionary on, so that keys this version does not
know survive a copy. Canonical means sorted keys, no spaces, UTF-8 and no NaN: equal metadata are
equal bytes.
"""

import json
import reprlib
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from gazepack.errors import DatasetError, UsageError

FORMAT_VERSION = 1
"""The version of the dataset directory that this code reads and writes."""
MAX_PSNR = 100.0
"""What is stored for a frame that was painted without error, in dB."""
MAX_SIDE = 4681
"""The most tiles down or across: 14 patches each, whose rows and columns are numbers of 16 bits."""
MAX_TILES = 2**16
"""The most tiles of a view."""


class _Model(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class SourceMeta(_Model):
    """The video that a sample was cut from, and which part."""

    bytes: int = Field(ge=0, lt=2**63)
    """Size of the file."""
    codec: str
    """Name of its video codec."""
    width: int = Field(ge=1)
    """As decoded, after rotation, in pixels."""
    height: int = Field(ge=1)
    """As decoded, after rotation, in pixels."""
    display_width: int = Field(ge=1)
    """With square pixels."""
    display_height: int = Field(ge=1)
    """With square pixels."""
    fps: float | None
    """Frames a second, where known."""
    duration_seconds: float | None
    """Length of the whole video, where known."""
    start_seconds: float
    """Where this sample starts."""
    end_seconds: float | None
    """Where it ends, where known."""


class ViewMeta(_Model):
    """One way a segment is seen: its grid, and one number a frame in every list."""

    name: str
    """`tiles` or `thumbnail`."""
    rows: int = Field(ge=1, le=MAX_SIDE)
    """Tiles down the frame."""
    cols: int = Field(ge=1, le=MAX_SIDE)
    """Tiles across the frame."""
    patch_size: int = Field(ge=4, le=64)
    """Side of every patch, in pixels."""
    every: int = Field(default=1, ge=1)
    """Its frame `n` is frame `n * every` of the first view."""
    times: list[float]
    """Seconds from the start of the video."""
    tokens: list[int]
    """How many tokens the frame has."""
    psnr: list[float]
    """Painted against fitted frame, in dB, at most `MAX_PSNR`."""
    l1: list[float]
    """Mean absolute error of the painted frame, 0 to 255."""

    @model_validator(mode="after")
    def _one_number_a_frame(self) -> Self:
        if not len(self.times) == len(self.tokens) == len(self.psnr) == len(self.l1):
            lengths = {name: len(getattr(self, name)) for name in ("times", "tokens", "psnr", "l1")}
            raise ValueError(f"view {self.name!r} has lists of unequal length: {lengths}")
        if self.tokens and not 0 <= min(self.tokens) <= max(self.tokens) <= 65535:
            raise ValueError(f"view {self.name!r} has a frame of {max(self.tokens)} tokens")
        if self.rows * self.cols > MAX_TILES:
            raise ValueError(f"view {self.name!r} has {self.rows * self.cols} tiles")
        if self.psnr and max(self.psnr) > MAX_PSNR:
            raise ValueError(f"view {self.name!r} has a PSNR above {MAX_PSNR} dB")
        return self


class SampleMeta(_Model):
    """The metadata of one sample; `docs/format.md`, section 4."""

    format_version: int = Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)
    """Always 1."""
    key: str
    """The sample's key."""
    id: str
    """The user's own name of the video, any text."""
    window: int = Field(ge=0, le=2**31 - 1)
    """Which sample of its segment, from 0."""
    first_frame: int = Field(ge=0)
    """Position of the sample's first frame among the sampled frames of its segment."""
    clip_frames: int = Field(ge=1)
    """Frames after which the canvas starts anew."""
    source: SourceMeta
    """The video."""
    views: list[ViewMeta]
    """At least one view."""
    user: dict[str, Any]
    """The manifest's own metadata."""

    @model_validator(mode="after")
    def _has_views_of_the_same_frames(self) -> Self:
        if not self.views:
            raise ValueError("a sample needs at least one view")
        num_frames = len(self.views[0].times)
        for view in self.views:
            if view.every != 1 and (view is not self.views[-1] or view is self.views[0]):
                raise ValueError(
                    f"view {view.name!r} leaves out frames, and is not a further, last one"
                )
            if len(view.times) != -(-num_frames // view.every):
                raise ValueError(
                    f"view {view.name!r} has {len(view.times)} frames: the first has {num_frames}, "
                    f"of which it shows every {view.every}."
                )
        return self


def check_meta(meta: dict[str, Any]) -> SampleMeta:
    """Return the checked form of a metadata dictionary.

    Raises:
        UsageError: something is missing, of the wrong type or out of range.
    """
    try:
        return SampleMeta.model_validate(meta)
    except ValidationError as error:
        raise UsageError(f"metadata: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Return the first thing that pydantic found wrong, as `place: message (got value)`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return message
    if first["type"] == "extra_forbidden":
        message = "there is nothing of this name here"
    says_itself = first["type"] in ("missing", "value_error")
    value = "" if says_itself else f" (got {reprlib.repr(first['input'])})"
    return f"{place}: {message}{value}"


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of a JSON value.

    Raises:
        UsageError: it is not JSON: NaN, infinity, a lone surrogate, or an object of Python.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"metadata cannot be written as JSON ({error})") from error


def parse_json(data: bytes | memoryview) -> Any:
    """Return the value of strict JSON.

    pydantic's parser takes a third of the time; what it refuses, such as 200 levels of nesting, the library
    of Python decides.

    Raises:
        DatasetError: it is not JSON, or holds NaN or an infinity.
    """
    stored = bytes(data)
    try:
        return from_json(stored, allow_inf_nan=False)
    except ValueError:
        return _parse_slowly(stored)


def _parse_slowly(stored: bytes) -> Any:
    """Do what `parse_json` does, for all JSON that Python reads."""
    try:
        return json.loads(str(stored, "utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not valid JSON ({error})") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
