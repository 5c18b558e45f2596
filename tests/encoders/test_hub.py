"""What the families were trained with."""

import pytest

from gazepack.encoders.hub import HUB_FAMILIES


@pytest.mark.parametrize(
    ("family", "constants"),
    [
        ("siglip_vision_model", "IMAGENET_STANDARD"),
        ("siglip2_vision_model", "IMAGENET_STANDARD"),
        ("clip_vision_model", "OPENAI_CLIP"),
        ("dinov2", "IMAGENET_DEFAULT"),
        ("dinov2_with_registers", "IMAGENET_DEFAULT"),
    ],
)
def test_pixels_are_normalised_as_transformers_does(family: str, constants: str) -> None:
    """Mean and deviation of a family are those of its image processor in transformers."""
    transformers = pytest.importorskip(
        "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
    )
    published = transformers.image_utils
    backbone = HUB_FAMILIES[family]
    assert list(backbone.mean) == list(getattr(published, f"{constants}_MEAN"))
    assert list(backbone.std) == list(getattr(published, f"{constants}_STD"))
