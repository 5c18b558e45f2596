"""Small models of each family, with random weights, and batches cut from random frames."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gazepack.encoders import GazedQwenTower
from gazepack.geometry import SCALE_OFFSETS, Grid
from gazepack.loader import Batch
from gazepack.patches import cut, pyramid

PATCH_SIZE = 4
Choose = Callable[[Grid], np.ndarray[Any, np.dtype[np.int64]]]


def finest(grid: Grid) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose all finest patches, row by row."""
    return np.arange(SCALE_OFFSETS[-1] * grid.num_tiles, grid.num_choices)


def build_batch(videos: Sequence[tuple[Grid, Tensor]], choose: Choose) -> Batch:
    """Cut a batch out of fitted frames.

    Args:
        videos: of each sample its grid and frames, uint8 T x 3 x H x W.
        choose: gives the grid ids of a frame's tokens, in gaze order.
    """
    names = ("view", "frame", "scale", "row", "col", "rank")
    tokens: list[Tensor] = [torch.zeros(0, 6, dtype=torch.int32)]
    patches: list[Tensor] = [torch.zeros(0, PATCH_SIZE, PATCH_SIZE, 3, dtype=torch.uint8)]
    bounds, meta = [0], []
    for grid, frames_T3HW in videos:
        levels = pyramid(frames_T3HW)
        count = 0
        for frame in range(len(frames_T3HW)):
            scale, row, col = (torch.from_numpy(x) for x in grid.places(choose(grid)))
            at = torch.full_like(scale, frame)
            patches.append(
                cut(levels, frame=at, scale=scale, row=row, col=col, patch_size=PATCH_SIZE)
            )
            rank = torch.arange(len(scale))
            tokens.append(torch.stack((at * 0, at, scale, row, col, rank), dim=1).int())
            count += len(scale)
        bounds.append(bounds[-1] + count)
        meta.append({"views": [{"name": "tiles", "rows": grid.rows, "cols": grid.cols}]})
    tokens_N6 = torch.cat(tokens)
    return Batch(
        patches=torch.cat(patches).permute(0, 3, 1, 2),
        **dict(zip(names, tokens_N6.unbind(1), strict=True)),
        loss=torch.full((len(tokens_N6),), float("nan")),
        cu_seqlens=torch.tensor(bounds, dtype=torch.int32),
        meta=meta,
    )


def some_videos() -> list[tuple[Grid, Tensor]]:
    """Return three videos of random frames, on grids of different size."""
    generator = torch.Generator().manual_seed(0)
    grids = [Grid(rows=r, cols=c, patch_size=PATCH_SIZE) for r, c in ((1, 1), (2, 3), (1, 1))]
    return [
        (
            g,
            torch.randint(
                0, 256, (t, 3, g.height, g.width), dtype=torch.uint8, generator=generator
            ),
        )
        for g, t in zip(grids, (3, 2, 1), strict=True)
    ]


def random_choice(seed: int) -> Choose:
    """Return a function that chooses 0 to 39 patches of any scale."""
    rng = np.random.default_rng(seed)
    return lambda grid: rng.permutation(grid.num_choices)[: rng.integers(0, 40)]


def pictures_of_qwen(frames_T3HW: Tensor, encoder: GazedQwenTower) -> tuple[Tensor, Tensor]:
    """Return pixels and grids as Qwen's image processor gives them, each frame a picture."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (encoder.mean, encoder.std))
    pixels = (frames_T3HW / 255 - mean) / std
    rows, cols = pixels.shape[2] // 4, pixels.shape[3] // 4
    split = pixels.reshape(len(pixels), 3, rows, 2, 2, cols, 2, 2)  # T 3 row a p col b p
    ordered = split.permute(0, 2, 5, 3, 6, 1, 4, 7)  # T row col a b 3 p p
    doubled = ordered.unsqueeze(6).expand(*ordered.shape[:6], 2, 2, 2)
    return doubled.reshape(-1, 3 * 2 * 2 * 2), torch.tensor([[1, 2 * rows, 2 * cols]] * len(pixels))


@pytest.fixture(scope="session")
def as_pictures() -> Callable[[Tensor, GazedQwenTower], tuple[Tensor, Tensor]]:
    return pictures_of_qwen


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return build_batch


@pytest.fixture(scope="session")
def videos() -> list[tuple[Grid, Tensor]]:
    return some_videos()


@pytest.fixture
def gazed() -> Batch:
    """Three samples of 6 frames with 0 to 39 tokens each, of all scales."""
    return build_batch(some_videos(), random_choice(1))


@pytest.fixture
def all_finest() -> Batch:
    """What the selector `all` gives, at the finest scale only."""
    return build_batch(some_videos(), finest)


# ------------------------------------------------------------------------------------------ models


def _siglip() -> nn.Module:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig(**_sizes(), image_size=56, patch_size=PATCH_SIZE))


def _siglip2() -> nn.Module:
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    return Siglip2VisionModel(
        Siglip2VisionConfig(**_sizes(), num_patches=256, patch_size=PATCH_SIZE)
    )


def _clip() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**_sizes(), image_size=56, patch_size=PATCH_SIZE))


def _dinov2() -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(**_dino_sizes()))


def _dinov2_registers() -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**_dino_sizes()))


def _sizes() -> dict[str, int]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    return sizes | {"intermediate_size": 48}


def _dino_sizes() -> dict[str, int]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    return sizes | {"mlp_ratio": 2, "image_size": 24, "patch_size": PATCH_SIZE}


def _timm(**changes: Any) -> nn.Module:
    sizes = {"img_size": 56, "patch_size": PATCH_SIZE, "embed_dim": 32, "depth": 3, "num_heads": 2}
    module = import_timm().models.vision_transformer
    model: nn.Module = module.VisionTransformer(
        **sizes, num_classes=0, dynamic_img_size=True, **changes
    )
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "siglip": _siglip,
    "siglip2": _siglip2,
    "clip": _clip,
    "dinov2": _dinov2,
    "dinov2-registers": _dinov2_registers,
    "timm": _timm,
    "timm-registers": lambda: _timm(reg_tokens=4, no_embed_class=True, init_values=0.5),
    "timm-no-class": lambda: _timm(class_token=False, global_pool="avg", pre_norm=True),
}


def build_model(name: str) -> nn.Module:
    """Return a small model with random weights, none of them zero."""
    pytest.importorskip(
        "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
    )
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="session")
def make_model() -> Callable[[str], nn.Module]:
    return build_model


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    """Every family in turn."""
    return build_model(request.param)


# -------------------------------------------------------------------------------- timm, by itself


class _AnyName(type(nn.Module)):  # type: ignore[misc]  # mypy does not take a computed base
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules named torchvision, of which every name is an empty class."""

    def find_spec(
        self,
        fullname: str,
        path: Any = None,  # noqa: ARG002
        target: Any = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Stand in for torchvision only."""
        if fullname.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return a module in which every name is a class."""
        module = types.ModuleType(spec.name)

        def make(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return _AnyName(name, (nn.Module,), {})

        module.__getattr__ = make  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing."""


def import_timm() -> types.ModuleType:
    """Import timm, which takes data sets and a norm from torchvision that its ViT never uses.

    The torchvision wheels of PyPI do not load beside a CPU-only torch; where torchvision is missing, empty
    classes stand in for it while timm is imported, and are taken away again.
    """
    if "timm" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        finder = _StandIn()
        sys.meta_path.insert(0, finder)
        try:
            return pytest.importorskip("timm")
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
    return pytest.importorskip("timm")


@pytest.fixture(scope="session", autouse=True)
def _no_hub() -> Iterator[None]:
    """Nothing is downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
