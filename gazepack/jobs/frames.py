"""Which frames of a video are taken and how they are laid on tiles: all that a decoder is told.

These are the settings that need no network, so that a decoder starts without importing one.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gazepack.geometry import Grid, choose_grid
from gazepack.video import Sampling, VideoInfo


def _never_is_none(value: Any) -> Any:
    """Read `never`, since TOML and the command line have no word for nothing."""
    return None if value == "never" else value


class Settings(BaseModel):
    """Values that do not change, and no others than are known."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way a segment is seen."""

    grid: Grid
    every: int = 1
    """Of the frames that are sampled, from the first of every clip."""
    whole: bool = False
    """Whether all finest patches are kept, whatever the selector is."""


class FitSettings(Settings):
    """How a frame is laid on tiles."""

    fit: Literal["tiles", "square"] = "tiles"
    """`tiles`: the grid of closest aspect ratio that does not enlarge the video; `square`: one tile."""
    max_tiles: int = Field(default=8, ge=1, le=256)
    """The most tiles a frame may have."""
    thumbnail: bool = False
    """Whether the whole frame is also seen in one tile, as a second view."""
    thumbnail_every: Literal[1, 2, 4, 8, 16] | None = None
    """The thumbnail is kept whole, of every so-many-th frame; chosen from like the rest, of every frame, if
    `None`. These divide a clip, so a video in parts has the thumbnails that it has in one."""
    patch_size: int = Field(default=16, ge=4, le=64, multiple_of=2)
    """Side of every patch, in pixels."""

    @model_validator(mode="after")
    def _has_a_thumbnail_to_keep(self) -> Self:
        if self.thumbnail_every is not None and not self.thumbnail:
            raise ValueError("thumbnail_every is for a thumbnail, and there is none; add thumbnail")
        return self

    def views(self, info: VideoInfo) -> dict[str, View]:
        """Return the views of a video by name."""
        height, width = info.display_height, info.display_width
        p = self.patch_size
        grid = choose_grid(height, width, fit=self.fit, max_tiles=self.max_tiles, patch_size=p)
        views = {"tiles": View(grid=grid)}
        if self.thumbnail:
            one = Grid(rows=1, cols=1, patch_size=p)
            whole = self.thumbnail_every is not None
            views["thumbnail"] = View(grid=one, every=self.thumbnail_every or 1, whole=whole)
        return views


class ShardSettings(Settings):
    """Which videos share a file, and how long ones are shared out."""

    samples_per_shard: int = Field(default=256, ge=1)
    """The most segments in a shard."""
    shard_size: int = Field(default=4 * 2**30, ge=1)
    """A shard also ends before the *source* files behind it pass this many bytes: it is planned before
    anything is packed, when packed sizes are unknown."""
    max_sample_tokens: int = Field(default=65536, ge=1, le=2**18)
    """A segment that passes this many tokens goes on in a further sample, from the next clip."""
    split_seconds: Annotated[float | None, BeforeValidator(_never_is_none)] = Field(
        default=600.0, gt=0, allow_inf_nan=False
    )
    """A longer segment is packed in parts of about this length, where it can be: `parts.py`; never if `None`
    or "never"."""


class FrameSettings(Settings):
    """What decides the frames of a segment."""

    sampling: Sampling = Sampling()
    """Which frames of a video are taken."""
    start_seconds: float | None = Field(default=None, ge=0)
    """Where every video starts for which the manifest says nothing."""
    end_seconds: float | None = Field(default=None, gt=0)
    """Where every video ends for which the manifest says nothing."""
    fit: FitSettings = FitSettings()
    """How frames are laid on tiles."""
    shards: ShardSettings = ShardSettings()
    """Which videos share a file."""

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        start, end = self.start_seconds or 0.0, self.end_seconds
        if end is not None and end <= start:
            raise ValueError(f"end {end:g} s is not after start {start:g} s")
        return self

    def range_of(
        self, start_seconds: float | None, end_seconds: float | None
    ) -> tuple[float | None, float | None]:
        """Return the range of a segment: what the manifest says, else what is said for every video."""
        start = self.start_seconds if start_seconds is None else start_seconds
        return start, self.end_seconds if end_seconds is None else end_seconds
