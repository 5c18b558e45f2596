"""The laws of the adapter: dense is a special case, ragged is one by one, published is matched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gazepack.encoders import GazedEncoder
from gazepack.encoders.attention import Kernel, Rule
from gazepack.errors import UsageError
from gazepack.geometry import Grid
from gazepack.loader import Batch

RULES: tuple[Rule, ...] = ("frame", "block_causal", "causal", "bidirectional")
Videos = list[tuple[Grid, Tensor]]


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare float32 features of order 1: sums are taken in another order, in three layers."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def dense(model: nn.Module, frames_T3HW: Tensor, encoder: GazedEncoder) -> Tensor:
    """Return what the model itself gives for frames, T x tokens x D, its prefix first."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (encoder.mean, encoder.std))
    pixels = (frames_T3HW / 255 - mean) / std
    model_type = getattr(getattr(model, "config", None), "model_type", "timm")
    with torch.no_grad():
        if model_type == "timm":
            return model.forward_features(pixels)  # type: ignore[operator, no-any-return]
        if model_type.startswith("dinov2"):
            return model(pixels).last_hidden_state  # type: ignore[no-any-return]
        if model_type == "siglip2_vision_model":
            p = encoder.patch_size
            rows, cols = pixels.shape[2] // p, pixels.shape[3] // p
            flat = pixels.unflatten(3, (cols, p)).unflatten(2, (rows, p))
            flat = flat.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
            shapes = torch.tensor([[rows, cols]] * len(flat))
            return model(flat, torch.ones(flat.shape[:2]), shapes).last_hidden_state  # type: ignore[no-any-return]
        return model(pixels, interpolate_pos_encoding=True).last_hidden_state  # type: ignore[no-any-return]


def one(batch: Batch, sample: int) -> Batch:
    """Return a batch of one sample."""
    a, b = batch.cu_seqlens[sample : sample + 2].tolist()
    names = ("patches", "view", "frame", "scale", "row", "col", "rank", "loss")
    return Batch(
        **{name: getattr(batch, name)[a:b] for name in names},
        cu_seqlens=torch.tensor([0, b - a], dtype=torch.int32),
        meta=[batch.meta[sample]],
    )


def test_dense_is_a_special_case(model: nn.Module, all_finest: Batch, videos: Videos) -> None:
    """With all finest patches and attention `frame`, tokens and prefix are the dense model's."""
    encoder = GazedEncoder(model, attention="frame")
    with torch.no_grad():
        encoded = encoder.encode(all_finest)
    expected = [dense(model, frames, encoder) for _, frames in videos]
    num_prefix = encoded.prefix_BFD.shape[1]
    close(encoded.tokens_ND, torch.cat([x[:, num_prefix:].flatten(0, 1) for x in expected]))
    close(encoded.prefix_BFD, torch.cat([x[:, :num_prefix] for x in expected]))


def test_an_adapted_model_still_takes_dense_images(
    make_model: Callable[[str], nn.Module], videos: Videos
) -> None:
    """Adapting a model leaves what it gives for dense images as it was."""
    model = make_model("siglip")
    encoder = GazedEncoder(model)
    adapted = dense(model, videos[0][1], encoder)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    close(adapted, dense(model, videos[0][1], encoder))


@pytest.mark.parametrize("rule", RULES)
def test_ragged_is_one_by_one(model: nn.Module, gazed: Batch, rule: Rule) -> None:
    """The features of a sample do not depend on the samples beside it."""
    encoder = GazedEncoder(model, attention=rule)
    with torch.no_grad():
        together = encoder(gazed)
        alone = torch.cat([encoder(one(gazed, sample)) for sample in range(gazed.num_samples)])
    assert len(together) == gazed.num_tokens > 50
    close(together, alone)


@pytest.mark.parametrize("rule", RULES)
def test_order_inside_a_batch_is_kept(
    make_model: Callable[[str], nn.Module], gazed: Batch, rule: Rule
) -> None:
    """Windows reorder tokens for the model, never in the result: their features follow the tokens."""
    encoder = GazedEncoder(make_model("dinov2-registers"), attention=rule, window_tiles=1)
    with torch.no_grad():
        features = encoder(gazed)
        for window in encoder.encode(gazed).layout.window_B.unique().tolist():
            mine = _in_window(gazed, window)
            close(encoder(mine), features[_window_of(gazed) == window])


def _window_of(batch: Batch) -> Tensor:
    """Return the tile of each token, by hand."""
    tiles = []
    for sample, meta in enumerate(batch.meta):
        for token in range(int(batch.cu_seqlens[sample]), int(batch.cu_seqlens[sample + 1])):
            side = (2, 4, 7, 14)[int(batch.scale[token])]
            down, across = int(batch.row[token]) // side, int(batch.col[token]) // side
            tiles.append(down * meta["views"][0]["cols"] + across)
    return torch.tensor(tiles)


def _in_window(batch: Batch, window: int) -> Batch:
    """Return a batch of one tile of each sample, as if it were the whole view."""
    kept = _window_of(batch) == window
    side = torch.tensor([2, 4, 7, 14])[batch.scale.long()].int()
    counts = [
        int(kept[a:b].sum()) for a, b in zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)
    ]
    names = ("view", "frame", "scale", "rank", "loss")
    return Batch(
        patches=batch.patches[kept],
        **{name: getattr(batch, name)[kept] for name in names},
        row=(batch.row % side)[kept],
        col=(batch.col % side)[kept],
        cu_seqlens=torch.tensor([0, *np.cumsum(counts)], dtype=torch.int32),
        meta=[{"views": [{"name": "tiles", "rows": 1, "cols": 1}]} for _ in batch.meta],
    )


@pytest.mark.parametrize("rule", ["block_causal", "frame"])
@pytest.mark.parametrize("kernel", ["sdpa", "flex"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_published_siglip_is_matched(rule: Rule, kernel: Kernel) -> None:
    """On patches of all scales the features are those of the customised SigLIP of NVlabs/AutoGaze.

    tests/data/published-siglip.npz holds a small model's random weights and what the published code (commit
    2943b28, transformers 4.51.3, `frame_independent_encoding` for `frame`) gave for two videos of 0 to 40
    tokens a frame, padded there.
    """
    transformers = pytest.importorskip("transformers")
    recorded = np.load(Path(__file__).parents[1] / "data" / "published-siglip.npz")
    config = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=56, patch_size=4, vision_use_head=False,
    )  # fmt: skip
    model = transformers.SiglipVisionModel(config).eval()
    weights = {
        name.removeprefix("weight/"): torch.from_numpy(recorded[name])
        for name in recorded.files
        if name.startswith("weight/")
    }
    model.load_state_dict(weights)
    batch = _recorded_batch(recorded)
    with torch.no_grad():
        features = GazedEncoder(model, attention=rule, kernel=kernel)(batch)
    close(features, torch.from_numpy(recorded[f"features_{rule}"]))


def _recorded_batch(recorded: Any) -> Batch:
    """Return the published code's own patches, which are numbers, as a batch."""
    grid = Grid(rows=1, cols=1, patch_size=4)
    frame, ids = grid.from_gazing_pos(recorded["gazing_pos"])
    places = dict(zip(("scale", "row", "col"), grid.places(ids), strict=True))
    columns = {"view": frame * 0, "frame": frame, "rank": frame * 0, **places}
    return Batch(
        patches=torch.from_numpy(recorded["patches"]),
        **{name: torch.from_numpy(column).int() for name, column in columns.items()},
        loss=torch.zeros(len(frame)),
        cu_seqlens=torch.tensor([0, *recorded["num_tokens"].cumsum()], dtype=torch.int32),
        meta=[{"views": [{"name": "tiles", "rows": 1, "cols": 1}]}] * 2,
    )


def test_hidden_states_are_the_models(
    make_model: Callable[[str], nn.Module], all_finest: Batch, videos: Videos
) -> None:
    """`hidden_state` counts as the model's `hidden_states` do, and one that does not exist is refused."""
    model = make_model("clip")
    for number in (0, -2, -1):
        encoder = GazedEncoder(model, attention="frame", hidden_state=number)
        with torch.no_grad():
            features = encoder(all_finest)
            mean, std = (torch.tensor(x).view(3, 1, 1) for x in (encoder.mean, encoder.std))
            states = [
                model(
                    (frames / 255 - mean) / std,
                    interpolate_pos_encoding=True,
                    output_hidden_states=True,
                ).hidden_states[number]
                for _, frames in videos
            ]
        close(features, torch.cat([state[:, 1:].flatten(0, 1) for state in states]))
    with pytest.raises(UsageError, match="no hidden state 4; it has 4"):
        GazedEncoder(model, hidden_state=4)


@pytest.mark.parametrize("name", ["siglip", "clip", "timm"])
def test_gradients_reach_every_weight_once(
    make_model: Callable[[str], nn.Module], gazed: Batch, name: str
) -> None:
    """A step trains the model: gradients of the batch are the sums of those of its samples."""
    model = make_model(name)
    encoder = GazedEncoder(model)
    encoder(gazed).sum().backward()
    together = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for sample in range(gazed.num_samples):
        encoder(one(gazed, sample)).sum().backward()
    assert len(together) > 20
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(together[key], parameter.grad, atol=1e-2, rtol=1e-3)


def test_gradient_checkpointing_changes_nothing(
    make_model: Callable[[str], nn.Module], gazed: Batch
) -> None:
    """Layers that are run a second time for their gradients see the same ragged attention."""
    gradients = []
    for checkpointing in (False, True):
        model = make_model("siglip").train()
        if checkpointing:
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
            next(
                getattr(model, name) for name in names if hasattr(model, name)
            )()  # new, then 5.18's
        GazedEncoder(model, attention="frame")(gazed).square().sum().backward()
        gradients.append(model.embeddings.patch_embedding.weight.grad)  # type: ignore[union-attr]
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about itself
def test_a_compiled_model_is_not_compiled_for_every_batch(
    make_model: Callable[[str], nn.Module], gazed: Batch
) -> None:
    """Around the encoder and in its layers, `torch.compile` compiles once, and once for any length."""
    compiled_graphs = 0

    def count(graph: Any, _: Any) -> Any:
        nonlocal compiled_graphs
        compiled_graphs += 1
        return graph

    encoder = GazedEncoder(make_model("siglip"))
    batches = [one(gazed, 0), one(gazed, 1), one(gazed, 2), gazed]
    expected = [encoder(batch) + 1 for batch in batches]
    encoder.model.encoder.layers[0].mlp.compile(backend=count)  # type: ignore[union-attr, index]
    around = torch.compile(lambda batch: encoder(batch) + 1, backend=count)
    for batch, features in zip(batches, expected, strict=True):
        torch.testing.assert_close(around(batch), features, atol=1e-5, rtol=1e-5)
    assert compiled_graphs == 4  # two parts, each for the first batch and for those of any length


def test_an_empty_batch_has_no_features_and_zero_gradients(
    make_batch: Callable[..., Batch], model: nn.Module
) -> None:
    """A rank that gets no sample takes part in the step: 0 x D features, from which gradients flow."""
    empty = make_batch([], lambda _: np.zeros(0, dtype=np.int64))
    features = GazedEncoder(model)(empty)
    assert features.shape == (0, 32)
    features.sum().backward()


def test_a_batch_of_other_patches_is_refused(
    make_model: Callable[[str], nn.Module], gazed: Batch
) -> None:
    """Patches of another size than the model's are refused, with both sizes."""
    encoder = GazedEncoder(make_model("siglip"))
    smaller = Batch(**{**_fields(gazed), "patches": gazed.patches[:, :, :2, :2]})
    with pytest.raises(UsageError, match=r"2 px, the model takes 4 px; pack with --patch-size 4"):
        encoder(smaller)


def _fields(batch: Batch) -> dict[str, Any]:
    return {name: getattr(batch, name) for name in batch.__slots__}


def test_other_models_are_refused() -> None:
    """A model that nobody knows is refused by name."""
    with pytest.raises(UsageError, match=r"torch\.nn.*Linear is no vision transformer.*siglip"):
        GazedEncoder(nn.Linear(2, 2))


def test_windows_have_a_side(make_model: Callable[[str], nn.Module]) -> None:
    """A window of no tiles is refused."""
    with pytest.raises(UsageError, match="window_tiles 0 is below 1"):
        GazedEncoder(make_model("siglip"), window_tiles=0)


def test_unfused_timm_attention_is_refused(
    make_model: Callable[[str], nn.Module], gazed: Batch
) -> None:
    """A timm model that computes attention by itself would see all tokens, so it is refused."""
    model = make_model("timm")
    for block in model.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    with pytest.raises(UsageError, match=r"0 times, not once; build it with fused attention"):
        GazedEncoder(model)(gazed)


def test_a_model_may_be_the_vision_part_of_another(gazed: Batch) -> None:
    """Of a model of pictures and text the vision part is taken."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "image_size": 56, "patch_size": 4},
        text_config={**sizes, "vocab_size": 9},
        projection_dim=8,
    )
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        whole, part = (GazedEncoder(m)(gazed) for m in (model, model.vision_model))
    assert torch.equal(whole, part)
