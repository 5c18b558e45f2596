"""Every setting that decides a byte of the output. What only decides speed (workers, device) is not here.

Equal settings over equal sources give equal bytes, so these settings, with the sha256 of the model in place of
its path, are the provenance in dataset.json: the ground on which a resumed run is accepted or refused.
"""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gazepack import __version__
from gazepack.errors import UsageError, instead_of
from gazepack.formats import AnyCodec, DatasetInfo, PlacesCodec, codec_from
from gazepack.formats.meta import describe
from gazepack.geometry import CLIP_FRAMES, SCALE_SIDES
from gazepack.jobs.frames import FrameSettings, Settings
from gazepack.selectors import Selector, SelectorSettings


class CodecSettings(Settings):
    """How patches become bytes."""

    name: Literal["jpeg", "zstd", "webp", "png", "raw"] | None = None
    """`jpeg`: 4:4:4, small; the others lose nothing. jpeg unless given."""
    quality: int | None = Field(default=None, ge=1, le=100)
    """Of jpeg; 95 unless given."""

    @model_validator(mode="after")
    def _quality_is_for_jpeg(self) -> Self:
        if self.quality is not None and self.name not in ("jpeg", None):
            raise ValueError(
                f"quality {self.quality} is a setting of jpeg, the codec is {self.name}"
            )
        return self

    def make(self) -> AnyCodec:
        """Return the codec."""
        quality = {} if self.quality is None else {"quality": self.quality}
        return codec_from(self.name or "jpeg", **quality)


class PackSettings(FrameSettings):
    """All of them together."""

    selector: SelectorSettings = SelectorSettings()
    """Who chooses, and how well."""
    container: Literal["webdataset", "arrow"] = "webdataset"
    """What the shards are: tar files or Arrow files."""
    store: Literal["patches", "places"] = "patches"
    """`places`: no patches, only what was chosen; they are cut from the videos when they are read."""
    codec: CodecSettings = CodecSettings()
    """How patches become bytes."""

    @model_validator(mode="after")
    def _places_need_no_codec(self) -> Self:
        if self.store == "places" and self.codec != CodecSettings():
            raise ValueError("a codec is for patches, and only places are stored; leave it out")
        return self

    def make_codec(self) -> AnyCodec:
        """Return what encodes patches, or the places of patches that are not stored."""
        return PlacesCodec() if self.store == "places" else self.codec.make()

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return checked settings.

        Raises:
            UsageError: one line naming the setting, the value and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _refusal(error) from None

    def dataset_info(self, selector: Selector) -> DatasetInfo:
        """Return what a dataset that is packed with these settings says of itself."""
        return DatasetInfo(
            writer=f"gazepack {__version__}",
            container=self.container,
            codec=self.make_codec().settings(),
            patch_size=self.fit.patch_size,
            clip_frames=CLIP_FRAMES,
            scale_sides=SCALE_SIDES,
            provenance=self.provenance(selector),
        )

    def provenance(self, selector: Selector) -> dict[str, Any]:
        """Return what decides the bytes, as JSON: these settings, with the selector's own account of itself."""
        values = self.model_dump(mode="json", exclude={"selector", "codec", "container", "store"})
        chooser = selector.settings()
        model_sha256 = chooser.pop("model_sha256", None)
        return {
            **values,
            "selector": chooser,
            "min_psnr": self.selector.min_psnr,
            "model_sha256": model_sha256,
        }


def _refusal(error: ValidationError) -> UsageError:
    """Return one line for what pydantic found wrong; a name that is none gets those that there are."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    section, _, name = place.rpartition(".")
    match first["type"]:
        case "extra_forbidden":
            remedy = instead_of(name, _names_in(section), compared=_own_name)
            return UsageError(f"there is no setting {place!r}", remedy=remedy)
        case "model_type":
            problem = f"{place!r} is {first['input']!r}, not a table of settings"
            return UsageError(problem, remedy=f"there are {', '.join(_names_in(place))}")
    return UsageError(describe(error))


def _names_in(section: str) -> list[str]:
    """Return the names of all settings of a section, or of all sections, as a configuration file has them."""
    names = []
    for name, field in PackSettings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if section in ("", name):
            names += [name] if inner is None else [f"{name}.{setting}" for setting in inner]
    return names


def _own_name(place: str) -> str:
    """Return the name of a setting without its section."""
    return place.rpartition(".")[2]
