"""Settings that belong to a model: how to pack for it, and how to read what was packed into it.

`gazepack pack --preset NAME` packs by `pack`; `GazedEncoder(model, **preset(NAME).encoder)` reads. Options and
configuration files go before a preset.
"""

from dataclasses import dataclass, field
from typing import Any

from gazepack.errors import UsageError, instead_of

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What one family of models needs."""

    summary: str
    """One line for people."""
    pack: dict[str, Any]
    """Settings of packing, as a --config file holds them."""
    encoder: dict[str, Any] = field(default_factory=dict)
    """Arguments of `GazedEncoder`; empty where the model is not one of its families."""
    tokens_per_second: float | None = None
    """Of `mrope_positions`, for models whose time counts seconds."""


PRESETS: dict[str, Preset] = {
    "siglip2-base-p16-224": Preset(
        summary="SigLIP 2 base, one square of 224 px, as in the paper of AutoGaze",
        pack={"sampling": {"fps": 2.0}, "fit": {"fit": "square", "patch_size": 16}},
        encoder={"attention": "block_causal", "mean": _HALF, "std": _HALF},
    ),
    "siglip-so400m-p14-392": Preset(
        summary="SigLIP so400m as NVILA-HD-Video reads it: 128 frames of up to 48 pictures of 392 px, "
        "64 whole thumbnails",
        pack={
            "sampling": {"num_frames": 128},
            "fit": {
                "fit": "tiles",
                "patch_size": 14,
                "max_tiles": 192,
                "thumbnail": True,
                "thumbnail_every": 2,
            },
            "selector": {
                "name": "autogaze",
                "gazing_ratio": [0.2] + [0.06] * 15,
                "loss_threshold": 0.6,
            },
        },
        encoder={
            "attention": "block_causal",
            "window_tiles": 2,
            "hidden_state": -2,
            "mean": _HALF,
            "std": _HALF,
        },
    ),
    "dinov2-p14": Preset(
        summary="DINOv2, frames as independent images of up to 8 tiles of 196 px",
        pack={"sampling": {"fps": 2.0}, "fit": {"fit": "tiles", "patch_size": 14, "max_tiles": 8}},
        encoder={"attention": "frame"},
    ),
    "qwen2.5-vl": Preset(
        summary="Qwen2.5-VL: one merged token of 28 px a patch, 2 frames a second",
        pack={"sampling": {"fps": 2.0}, "fit": {"fit": "tiles", "patch_size": 28, "max_tiles": 4}},
        tokens_per_second=2.0,
    ),
    "qwen3-vl": Preset(
        summary="Qwen3-VL: one merged token of 32 px a patch, 2 frames a second",
        pack={"sampling": {"fps": 2.0}, "fit": {"fit": "tiles", "patch_size": 32, "max_tiles": 4}},
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}", remedy=instead_of(name, list(PRESETS)))
    return PRESETS[name]


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings of packing with those of their `preset` under them, if they name one.

    Given settings go first, one by one; but a given sampling takes the place of the preset's, and a given
    selector that of a preset's selector of another name, since their settings exclude each other.

    Raises:
        UsageError: there is no preset of that name.
    """
    given = dict(values)
    name = given.pop("preset", None)
    if name is None:
        return given
    merged = {**preset(name).pack, **given}
    for section, settings in preset(name).pack.items():
        mine = given.get(section)
        if not isinstance(mine, dict) or section == "sampling":
            continue
        if section != "selector" or mine.get("name", settings["name"]) == settings["name"]:
            merged[section] = {**settings, **mine}
    return merged
