"""What a painting is worth: its error in pixels, or its error in the features of another network.

A reward is anything that can look at frames and paintings and say a number of dB for each, higher is
better. The default is the PSNR. With the features of a vision transformer (DINOv2, SigLIP2, ...) it is
their distance that counts, which is the published recipe's perceptual objective; that needs the
`transformers` package and the weights on disk, and nothing is fetched.

    legend   N frames    S side of a tile in pixels    L positions    D width of the features
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor

from gazepack.errors import CheckpointError, UsageError

Features = Callable[[Tensor], Tensor]
"""Takes uint8 RGB N x 3 x S x S to float features N x L x D."""

LEAST_SHARE = 1e-6
"""The smallest error that is told from none, as a share of the signal: 60 dB."""


class Reward(Protocol):
    """Says what paintings are worth. Must not depend on the order of frames."""

    def __call__(self, frames_N3SS: Tensor, painted_N3SS: Tensor) -> Tensor:
        """Return a number of dB for each frame, float32 N, higher is better.

        Args:
            frames_N3SS: uint8, as they are.
            painted_N3SS: uint8, as they were painted.
        """


class PaintingReward:
    """The PSNR of the painting."""

    def __call__(self, frames_N3SS: Tensor, painted_N3SS: Tensor) -> Tensor:
        """Return the PSNR of each frame, in dB."""
        apart = (frames_N3SS.float() - painted_N3SS.float()) / 255
        return _decibels(apart.square().flatten(1).mean(1))


class FeatureReward:
    """How near the painting's features are to the frame's, relative to how much those vary in a frame.

    Args:
        features: of a network, without gradients.
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    @torch.no_grad()
    def __call__(self, frames_N3SS: Tensor, painted_N3SS: Tensor) -> Tensor:
        """Return the signal-to-noise ratio of each frame's features, in dB."""
        wanted_NLD = self._features(frames_N3SS).float()
        apart_NLD = self._features(painted_N3SS).float() - wanted_NLD
        signal_NLD = wanted_NLD - wanted_NLD.mean(1, keepdim=True)
        noise_N = apart_NLD.square().flatten(1).mean(1)
        return _decibels(noise_N / signal_NLD.square().flatten(1).mean(1).clamp(min=1e-12))


def _decibels(share_N: Tensor) -> Tensor:
    return -10 * share_N.clamp(min=LEAST_SHARE).log10()


def load_features(folder: str | Path, *, device: torch.device) -> Features:
    """Load a vision transformer of the Hugging Face layout from a folder.

    Pixels are prepared as its `preprocessor_config.json` says, by Pillow on every machine, but for a crop: it
    would leave out the borders of a tile, so the whole tile is resized to what would be cropped to.

    Args:
        folder: with `config.json`, `preprocessor_config.json` and safetensors.
        device: where it shall work.

    Raises:
        UsageError: the `transformers` package is missing.
        CheckpointError: the folder does not hold such a network.
    """
    try:
        hub: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            "--reward-features needs the transformers package", remedy="pip install transformers"
        ) from error
    try:
        only_local = {"local_files_only": True, "trust_remote_code": False}
        model = hub.AutoModel.from_pretrained(folder, use_safetensors=True, **only_local)
        processor = hub.AutoImageProcessor.from_pretrained(folder, backend="pil", **only_local)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"no vision transformer can be read from {folder}: {str(error).splitlines()[0]}",
            remedy="give the folder of a model saved with save_pretrained, in safetensors",
        ) from error
    vision = getattr(model, "vision_model", model).to(device).eval().requires_grad_(False)
    whole = {}
    if getattr(processor, "do_center_crop", False):
        whole = {"do_center_crop": False, "size": dict(processor.crop_size)}

    def features(pixels_N3SS: Tensor) -> Tensor:
        images = list(pixels_N3SS.cpu())
        inputs = processor(images=images, return_tensors="pt", **whole)["pixel_values"]
        hidden_NLD: Tensor = vision(pixel_values=inputs.to(device)).last_hidden_state
        return hidden_NLD

    return features
