"""A model of the LLaVA layout: dense is the model itself, and tokens stand where they should."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gazepack.encoders import Features, GazedMllm, Prompt
from gazepack.errors import CheckpointError, UsageError
from gazepack.geometry import Grid
from gazepack.loader import Batch

Llava = Callable[..., tuple[Any, Any]]
Make = Callable[..., Batch]
ASKED = Prompt(template="Answer : {video} {question} then")


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare float32 logits of order 10: sums are taken in another order, in four layers."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def square(num_frames: int, seed: int = 0) -> tuple[Grid, Tensor]:
    """Return random frames of one tile."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_frames, 3, 56, 56)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return Grid(rows=1, cols=1, patch_size=4), frames


def some(grid: Grid) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose 7 patches."""
    return np.random.default_rng(0).permutation(grid.num_choices)[:7]


def timed(batch: Batch) -> Batch:
    """Give the frames their times, one a second."""
    meta = [{"views": [v | {"times": [*range(9)]} for v in m["views"]]} for m in batch.meta]
    return dataclasses.replace(batch, meta=meta)


@pytest.mark.parametrize(
    ("family", "layer", "strategy"),
    [
        ("siglip_vision_model", -1, "full"),
        ("siglip_vision_model", -2, "full"),
        ("clip_vision_model", -2, "default"),
    ],
)
def test_dense_is_the_model_itself(
    little_llava: Llava, make_batch: Make, family: str, layer: int, strategy: str
) -> None:
    """With all finest patches the answer's logits are those of the model given the frames as pictures."""
    model, tokenizer = little_llava(
        family, vision_feature_layer=layer, vision_feature_select_strategy=strategy
    )
    grid, frames = square(3)
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    finest = make_batch([(grid, frames)], lambda g: np.arange(69, g.num_choices))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (mllm.encoder.mean, mllm.encoder.std))
    text = "Answer : " + "<video> " * (3 * 196) + "which one then"
    with torch.inference_mode():
        actual = mllm(finest, ["which one"])
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        pixels = (frames / 255 - mean) / std
        expected = model(input_ids=ids, pixel_values=pixels).logits[:, -1]
    close(actual, expected)


def test_samples_do_not_depend_on_their_neighbours(little_llava: Llava, make_batch: Make) -> None:
    """A batch of videos and questions of different length gives what each gives alone."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    videos = [square(4), square(1, seed=1), square(2, seed=2)]
    questions = ["which one", "then which red one", "blue"]
    with torch.inference_mode():
        together = mllm(make_batch(videos, some), questions)
        alone = [mllm(make_batch([v], some), [q]) for v, q in zip(videos, questions, strict=True)]
    close(together, torch.cat(alone))


def test_a_sample_without_tokens_is_asked_all_the_same(
    little_llava: Llava, make_batch: Make
) -> None:
    """A video of which nothing was kept leaves the prompt."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    empty = make_batch([square(2)], lambda _: np.zeros(0, dtype=np.int64))
    with torch.inference_mode():
        ids = torch.tensor([tokenizer("Answer : which one then")["input_ids"]])
        close(mllm(empty, ["which one"]), model(input_ids=ids).logits[:, -1])


def test_tokens_stand_in_the_order_of_time(little_llava: Llava, make_batch: Make) -> None:
    """Frame by frame, of one frame view by view, each in its gaze order; the frame's text before them."""
    model, tokenizer = little_llava()
    prompt = dataclasses.replace(ASKED, frame="{number}")
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=prompt)
    batch = timed(make_batch([square(3)], some))
    view = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1] + [1] * 11)
    frame = torch.tensor([0, 0, 2, 2, 2, 0, 0, 0, 2, 2] + [2] * 11)
    views = batch.meta[0]["views"] * 2
    batch = dataclasses.replace(batch, view=view, frame=frame, meta=[{"views": views}])
    numbers_ND = torch.arange(21.0)[:, None].expand(21, 32)
    (video,) = mllm.videos(batch, Features(tokens_ND=numbers_ND, deepstack=()))
    words = [model.get_input_embeddings()(torch.tensor(tokenizer(n)["input_ids"]))[0] for n in "02"]
    order = [0, 1, 5, 6, 7], [2, 3, 4, 8, 9, *range(10, 21)]
    expected = [words[0], *numbers_ND[list(order[0])], words[1], *numbers_ND[list(order[1])]]
    assert torch.equal(video.embedded_LD, torch.stack(expected))


def test_a_view_of_fewer_frames_stands_at_their_times(
    little_llava: Llava, make_batch: Make
) -> None:
    """The second frame of a view that shows every second frame stands with the third of the first view."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(
        model, tokenizer=tokenizer, prompt=dataclasses.replace(ASKED, frame="{number}")
    )
    batch = timed(make_batch([square(3)], some))
    view = torch.tensor([0] * 7 * 2 + [1] * 7)
    frame = torch.tensor([0] * 7 + [2] * 7 + [0, 0, 0, 1, 1, 1, 1])
    (first,) = batch.meta[0]["views"]
    meta = [{"views": [first, first | {"every": 2}]}]
    batch = dataclasses.replace(batch, view=view, frame=frame, meta=meta)
    numbers_ND = torch.arange(21.0)[:, None].expand(21, 32)
    (video,) = mllm.videos(batch, Features(tokens_ND=numbers_ND, deepstack=()))
    words = [model.get_input_embeddings()(torch.tensor(tokenizer(n)["input_ids"]))[0] for n in "02"]
    early, late = [*range(7), 14, 15, 16], [*range(7, 14), *range(17, 21)]
    expected = [words[0], *numbers_ND[early], words[1], *numbers_ND[late]]
    assert torch.equal(video.embedded_LD, torch.stack(expected))


def test_gradients_reach_tower_projector_and_language_model(
    little_llava: Llava, make_batch: Make
) -> None:
    """A step trains all three, as `forward` is called through DDP."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    mllm(make_batch([square(2)], some), ["which one"]).square().sum().backward()
    without = {
        name.split(".")[1] if name.startswith("model.") else name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    assert without <= {"vision_tower"}  # the pooling head, of which nobody asks anything
    assert model.model.vision_tower.embeddings.patch_embedding.weight.grad.any()


def test_log_likelihood_is_that_of_the_whole_text(little_llava: Llava, make_batch: Make) -> None:
    """The mean log-probability of a continuation is what the model gives when it reads all of it."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    empty = make_batch([square(1)], lambda _: np.zeros(0, dtype=np.int64))
    with torch.inference_mode():
        row = mllm.row(mllm.videos(empty, mllm.embed(empty))[0], "which one")
        actual = mllm.log_likelihood(row, "the red one")
        ids = tokenizer("Answer : which one then the red one")["input_ids"]
        logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = torch.stack([logs[n - 1, ids[n]] for n in (-3, -2, -1)]).mean()
    close(actual, expected)


def test_letters_that_are_one_token_are_refused(little_llava: Llava) -> None:
    """Options whose letters the tokenizer does not know cannot be told apart."""
    model, tokenizer = little_llava()
    mllm = GazedMllm(model, tokenizer=tokenizer, prompt=ASKED)
    assert mllm.first_tokens("ABCD") == [tokenizer.convert_tokens_to_ids(x) for x in "ABCD"]
    with pytest.raises(UsageError, match=r"does not tell A, B, C, D, E, F apart; .*--score text"):
        mllm.first_tokens("ABCDEF")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": [-2, -1]}, r"joins the hidden states \[-2, -1\]"),
        (
            {"vision_feature_select_strategy": "default"},
            r"'default' of the model does not fit a tower without class token",
        ),
        (
            {"family": "clip_vision_model"},
            r"'full' of the model does not fit a tower with class token",
        ),
    ],
)
def test_what_gazed_features_cannot_be_is_refused(
    little_llava: Llava, changes: dict[str, Any], message: str
) -> None:
    """Joined layers, a first patch that is dropped for a class token, and a class token that is kept."""
    model, tokenizer = little_llava(**changes)
    with pytest.raises(UsageError, match=message):
        GazedMllm(model, tokenizer=tokenizer)


def test_other_layouts_are_refused(make_model: Callable[[str], nn.Module]) -> None:
    """A model that is no LLaVA is refused by its type."""
    with pytest.raises(
        UsageError, match=r"type 'siglip_vision_model' does not .*give one of llava, "
    ):
        GazedMllm(make_model("siglip"), tokenizer=None)


def test_a_saved_model_is_loaded(little_llava: Llava, make_batch: Make, tmp_path: Path) -> None:
    """What transformers saved gives the same logits, normalised as its image processor says."""
    model, tokenizer = little_llava()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    colours = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(colours))
    loaded = GazedMllm.from_pretrained(str(tmp_path), template=ASKED.template)
    assert (loaded.encoder.mean, loaded.encoder.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    batch = make_batch([square(1)], some)
    itself = GazedMllm(
        model, tokenizer=tokenizer, prompt=ASKED, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )
    with torch.inference_mode():
        assert torch.equal(loaded(batch, ["which one"]), itself(batch, ["which one"]))
    assert not loaded.training


def test_damaged_and_foreign_models_are_refused(little_llava: Llava, tmp_path: Path) -> None:
    """Weights that were cut off, and a model that wants its own code to be run: one line, nobody is asked."""
    model, tokenizer = little_llava()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="holds no multimodal model"):
        GazedMllm.from_pretrained(str(tmp_path))
    own_code = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(own_code))
    (tmp_path / "own.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(CheckpointError, match="holds no multimodal model"):
        GazedMllm.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("is_known", [True, False])
def test_a_name_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, is_known: bool) -> None:
    """Where nobody answers, or nobody has it, a name that is no folder ends at once, in one line."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    asked = []

    def model_info(_: HfApi, name: str, *, timeout: float) -> None:
        asked.append((name, timeout))
        if is_known:
            raise ConnectionError("nobody there")
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    problem = "the hub cannot be asked .nobody there." if is_known else "the hub shows no model"
    with pytest.raises(CheckpointError, match=f"no folder 'owner/nowhere', and {problem}"):
        GazedMllm.from_pretrained("owner/nowhere")
    assert asked == [("owner/nowhere", 10.0)]


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, it is said how to get it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install gazepack\[encoders\]"):
        GazedMllm.from_pretrained("llava")


def test_a_folder_without_safe_weights_is_refused(little_llava: Llava, tmp_path: Path) -> None:
    """A pickled checkpoint is not opened, nor is an empty folder a model."""
    with pytest.raises(CheckpointError, match="holds no multimodal model"):
        GazedMllm.from_pretrained(str(tmp_path))
    model, tokenizer = little_llava()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no multimodal model"):
        GazedMllm.from_pretrained(str(tmp_path))
