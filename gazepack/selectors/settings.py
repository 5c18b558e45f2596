"""What a user may say about selection, checked as a whole, and the selector it makes.

An option that the named selector would not look at is refused: a run that silently ignored `--loss-threshold`
would only be noticed after the bill.
"""

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from gazepack.autogaze import AutoGaze
from gazepack.errors import UsageError
from gazepack.geometry import CLIP_FRAMES
from gazepack.selectors.base import GazingRatio, Selector
from gazepack.selectors.baselines import All, Difference, Random
from gazepack.selectors.gazing import Gazing
from gazepack.selectors.greedy import Greedy

Name = Literal["autogaze", "greedy", "difference", "random", "all"]

DEFAULT_NAME: Name = "autogaze"
DEFAULT_MIN_PSNR = 30.0
"""The bound in dB of `greedy`, and of the network in the package, when no end is given."""
PSNR_RANGE = (10.0, 60.0)

_OPTIONS: dict[Name, frozenset[str]] = {
    "autogaze": frozenset({"model", "gazing_ratio", "loss_threshold"}),
    "greedy": frozenset(),
    "difference": frozenset({"gazing_ratio"}),
    "random": frozenset({"gazing_ratio", "seed"}),
    "all": frozenset(),
}
"""The options each selector looks at, beside `min_psnr`, which every one of them honours."""


class SelectorSettings(BaseModel):
    """Who chooses, and how much. Every value is checked against the others on construction."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: Name = DEFAULT_NAME
    """The selector."""
    model: str | None = None
    """Of `autogaze`: a folder, a .safetensors file or a name on the Hugging Face hub; the network in the
    package unless given."""
    gazing_ratio: float | tuple[float, ...] | None = None
    """The most tokens per tile and frame as a share of 265, above 0 and up to 1. Several values are those of
    the positions in the 16-frame clip; the last goes on to the clip's end."""
    loss_threshold: float | None = None
    """Of `autogaze`: a frame ends once the loss it predicts is at or below this, in the model's own unit. A
    model that predicts in dB (`loss_unit` negative_psnr) takes -`min_psnr` unless given; at that threshold its
    choices of a frame end where the bound is met in truth."""
    min_psnr: float | None = None
    """The bound in dB that every frame meets, topped up greedily. Unless given it is 30 for `greedy`, and for
    the network in the package where nothing else ends a frame."""
    seed: int | None = None
    """Of `random`; 0 unless given."""

    @field_validator("gazing_ratio")
    @classmethod
    def _ratio_is_a_share(cls, value: GazingRatio | None) -> GazingRatio | None:
        ratios = value if isinstance(value, tuple) else () if value is None else (value,)
        for ratio in ratios:
            if not 0 < ratio <= 1:
                raise UsageError(
                    f"gazing ratio {ratio:g} is not above 0 and at most 1",
                    remedy="it is the largest share of a tile's 265 patches to take, say 0.1",
                )
        if isinstance(value, tuple) and not 1 <= len(value) <= CLIP_FRAMES:
            raise UsageError(
                f"gazing ratio has {len(value)} values",
                remedy=f"give one, or one for each of up to {CLIP_FRAMES} frames of a clip",
            )
        return value

    @field_validator("loss_threshold")
    @classmethod
    def _threshold_is_a_loss(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise UsageError(
                f"loss threshold {value:g} is not a finite number",
                remedy="give a loss in the model's unit; the published model was evaluated at 0.6 to 0.8",
            )
        return value

    @field_validator("min_psnr")
    @classmethod
    def _bound_is_reachable(cls, value: float | None) -> float | None:
        low, high = PSNR_RANGE
        if value is not None and not low <= value <= high:
            raise UsageError(
                f"min PSNR {value:g} dB is not from {low:g} to {high:g}",
                remedy="pixels are whole 8-bit steps: at 60 dB one value in 15 may be one step off, and more "
                "is the video itself (--selector all); 26 to 34 dB is usual",
            )
        return value

    @field_validator("seed")
    @classmethod
    def _seed_counts(cls, value: int | None) -> int | None:
        if value is not None and value < 0:
            raise UsageError(f"seed {value} is below 0", remedy="give a whole number from 0")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = {key: value for key, value in values.items() if value is not None}
        match values.get("name", DEFAULT_NAME):
            case "greedy":
                values.setdefault("min_psnr", DEFAULT_MIN_PSNR)
            case "autogaze" if not values.keys() & {"model", "gazing_ratio", "loss_threshold"}:
                values.setdefault("min_psnr", DEFAULT_MIN_PSNR)
            case "random":
                values.setdefault("seed", 0)
        return values

    @model_validator(mode="after")
    def _options_fit_the_selector(self) -> Self:
        given = [
            option
            for option in ("model", "gazing_ratio", "loss_threshold", "seed")
            if getattr(self, option) is not None
        ]
        for option in given:
            if option not in _OPTIONS[self.name]:
                users = ", ".join(name for name, options in _OPTIONS.items() if option in options)
                raise UsageError(
                    f"{option} {getattr(self, option)} means nothing to the selector {self.name}",
                    remedy=f"leave it out, or choose the selector {users}",
                )
        ends = self.gazing_ratio, self.loss_threshold, self.min_psnr
        if self.name == "autogaze" and ends == (None, None, None):
            raise UsageError(
                "the selector autogaze does not know where to stop",
                remedy="give a gazing ratio, a loss threshold, or both",
            )
        if self.name in ("difference", "random") and self.gazing_ratio is self.min_psnr is None:
            raise UsageError(
                f"the selector {self.name} does not know where to stop",
                remedy="give a gazing ratio, a min PSNR, or both",
            )
        return self


def build(settings: SelectorSettings, *, device: torch.device | str) -> Selector:
    """Make the selector that settings describe.

    Args:
        settings: checked settings.
        device: where a network is to live; the others work where their clips are.

    Raises:
        CheckpointError: the model cannot be loaded.
        UsageError: the model's unit gives the bound no meaning as a threshold, and there is no other end; or
            it gives the threshold none.
    """
    match settings.name:
        case "autogaze":
            return _gazing(settings, device)
        case "greedy":
            return Greedy()
        case "difference":
            return Difference(gazing_ratio=settings.gazing_ratio)
        case "random":
            return Random(gazing_ratio=settings.gazing_ratio, seed=settings.seed or 0)
        case "all":
            return All()


def _gazing(settings: SelectorSettings, device: torch.device | str) -> Gazing:
    """Load the network, and find where its frames end."""
    if settings.model is None:
        model = AutoGaze.bundled(device=device)
    else:
        model = AutoGaze.from_pretrained(settings.model, device=device)
    threshold = _threshold(settings, model)
    is_bound = settings.min_psnr is not None and threshold == -settings.min_psnr
    return Gazing(
        model,
        gazing_ratio=1.0 if settings.gazing_ratio is None else settings.gazing_ratio,
        loss_threshold=threshold,
        stops_at_bound=is_bound and model.config.loss_unit == "negative_psnr",
    )


def _threshold(settings: SelectorSettings, model: AutoGaze) -> float | None:
    """Return where a frame ends: as asked, or at the bound where the model predicts dB."""
    is_in_db, threshold = model.config.loss_unit == "negative_psnr", settings.loss_threshold
    if is_in_db and threshold is not None and threshold > -PSNR_RANGE[0]:
        raise UsageError(
            f"loss threshold {threshold:g} is {-threshold:g} dB to "
            f"{settings.model or 'the network in the package'}, which predicts minus the PSNR",
            remedy=f"give one of at most {-PSNR_RANGE[0]:g}, such as -30 for 30 dB, "
            "or a model of another unit",
        )
    if threshold is not None:
        return threshold
    if settings.min_psnr is not None and is_in_db:
        return -settings.min_psnr
    if settings.gazing_ratio is None:
        raise UsageError(
            f"the model {settings.model} does not predict dB, so a min PSNR does not tell it where to stop",
            remedy="give a gazing ratio, a loss threshold in the model's unit, or both",
        )
    return None
