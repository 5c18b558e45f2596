"""What paintings are worth."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gazepack.errors import UsageError
from gazepack.patches import psnr
from gazepack.training.rewards import FeatureReward, PaintingReward, Reward, load_features


class TinyViT(nn.Module):
    """A vision transformer of one layer with random weights: patches of 16 px, 8 numbers each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 16, stride=16)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, pixels_N3SS: Tensor) -> Tensor:
        """Return N x 196 x 8."""
        x = self.embed(pixels_N3SS.float() / 255)
        features: Tensor = self.layer(x.flatten(2).transpose(1, 2))
        return features


@pytest.fixture(params=["pixels", "features"])
def reward(request: pytest.FixtureRequest) -> Reward:
    """Each reward."""
    return PaintingReward() if request.param == "pixels" else FeatureReward(TinyViT().eval())


def test_the_nearer_painting_is_worth_more(reward: Reward, frames_BT3SS: Tensor) -> None:
    """A perfect painting is worth most, a noisy one less, a grey one least; frames do not mix."""
    frame_13SS = frames_BT3SS[0, :1]
    noise = torch.randint(-9, 10, frame_13SS.shape, generator=torch.Generator().manual_seed(1))
    noisy = (frame_13SS.int() + noise).clamp(0, 255).to(torch.uint8)
    paintings = torch.cat((frame_13SS, noisy, torch.full_like(frame_13SS, 128)))
    perfect, near, grey = reward(frame_13SS.repeat(3, 1, 1, 1), paintings).tolist()
    assert perfect == pytest.approx(60)
    assert perfect > near > grey
    assert near == pytest.approx(float(reward(frame_13SS, noisy)), rel=1e-4)


def test_pixels_are_judged_by_psnr(frames_BT3SS: Tensor) -> None:
    """The default reward is the PSNR that packing measures."""
    frame, other = frames_BT3SS[0, :1], frames_BT3SS[1, :1]
    apart = (frame.double() - other.double()).square().sum()
    expected = psnr(float(apart), frame.numel())
    assert float(PaintingReward()(frame, other)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is not None, reason="transformers is installed"
)
def test_features_need_transformers(tmp_path: Path) -> None:
    """Without the package, the remedy is to install it."""
    with pytest.raises(UsageError, match=r"needs the transformers package; pip install"):
        load_features(tmp_path, device=torch.device("cpu"))
