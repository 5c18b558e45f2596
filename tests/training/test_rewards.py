"""What paintings are worth."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gazepack.errors import CheckpointError, UsageError
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


@pytest.fixture(scope="module", params=["dinov2", "siglip"])
def vit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny vision transformer with random weights, as `save_pretrained` leaves it."""
    hub = pytest.importorskip("transformers", reason="no transformers: pip install transformers")
    hub.utils.logging.disable_progress_bar()
    folder: Path = tmp_path_factory.mktemp(request.param)
    part = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    if request.param == "dinov2":
        hub.Dinov2Model(hub.Dinov2Config(**part, image_size=56)).save_pretrained(folder)
        crop = {"size": {"shortest_edge": 256}, "crop_size": {"height": 56, "width": 56}}
        hub.BitImageProcessorPil(do_center_crop=True, **crop).save_pretrained(folder)
    else:
        vision = hub.SiglipVisionConfig(**part, intermediate_size=24, image_size=64)
        hub.SiglipVisionModel(vision).save_pretrained(folder)
        size = {"height": 64, "width": 64}
        hub.SiglipImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def test_features_of_a_vision_transformer_judge(vit: Path, frames_BT3SS: Tensor) -> None:
    """With a model from disk, too, the nearer painting is worth more, and borders count."""
    reward = FeatureReward(load_features(vit, device=torch.device("cpu")))
    frame_13SS = frames_BT3SS[0, :1]
    noise = torch.randint(-9, 10, frame_13SS.shape, generator=torch.Generator().manual_seed(1))
    noisy = (frame_13SS.int() + noise).clamp(0, 255).to(torch.uint8)
    cornered = frame_13SS.clone()
    cornered[..., :16, :16] = 255 - cornered[..., :16, :16]
    paintings = torch.cat((frame_13SS, noisy, cornered, torch.full_like(frame_13SS, 128)))
    perfect, near, corner, grey = reward(frame_13SS.repeat(4, 1, 1, 1), paintings).tolist()
    assert perfect == pytest.approx(60)
    assert perfect > near > grey
    assert perfect > corner > grey
    assert near == pytest.approx(float(reward(frame_13SS, noisy)), rel=1e-3)


def test_weights_that_are_no_vision_transformer_are_refused(vit: Path, tmp_path: Path) -> None:
    """An empty folder, weights cut short and a pickle end in one line that names the folder."""
    config, weights = (vit / name for name in ("config.json", "model.safetensors"))
    cases = {"empty": [], "short": [weights.read_bytes()[:-100]], "pickle": [b"pickle"]}
    for name, contents in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for content in contents:
            (folder / "config.json").write_bytes(config.read_bytes())
            weights_name = "pytorch_model.bin" if name == "pickle" else "model.safetensors"
            (folder / weights_name).write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"can be read from .*{name}.*save_pretrained"):
            load_features(folder, device=torch.device("cpu"))


def test_features_need_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, the remedy is to install it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"needs the transformers package; pip install"):
        load_features(tmp_path, device=torch.device("cpu"))
