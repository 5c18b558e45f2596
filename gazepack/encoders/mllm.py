"""Gazed tokens into a multimodal language model: of the LLaVA layout, Qwen2.5-VL, Qwen3-VL.

Such a model has a vision tower, a projector or merger that gives a token of its language model for each patch,
and a causal language model; all of transformers, and called as they are (`families.py`). The tokens of a batch
stand in the prompt where the picture or video would, frame by frame in the order of time, of one frame in gaze
order. With all finest patches and attention `frame`, the default, this is the model itself on the frames.

Other layouts are refused: pooled, resampled or shuffled features need their neighbours, which gazed tokens do
not all have.

    legend   N  tokens     D  width of the language model     L  places of a row
             S  samples    V  vocabulary
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gazepack.encoders.attention import Kernel, Rule, run_eagerly
from gazepack.encoders.backbone import Colour
from gazepack.encoders.families import FAMILIES, Family
from gazepack.encoders.mrope import mrope_positions
from gazepack.encoders.prompt import Prompt
from gazepack.encoders.qwen import Features
from gazepack.encoders.runs import Run, in_line, in_one_box
from gazepack.errors import CheckpointError, UsageError
from gazepack.geometry import TILE_SIDE
from gazepack.loader import Batch

_UNLOADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a folder that is missing, damaged, of unknown kind, or in want of a package."""
HUB_SECONDS = 10.0
"""How long the hub may take to say whether it has a model."""


class GazedMllm(nn.Module):
    """A multimodal language model that takes the loader's batches.

    Args:
        model: of transformers: `LlavaForConditionalGeneration` whose tower `GazedEncoder` takes, or
            `Qwen2_5_VLForConditionalGeneration` or `Qwen3VLForConditionalGeneration`.
        tokenizer: the model's.
        prompt: what stands around the video and its frames; that of the tokenizer's chat template where None.
        frame: text before each frame, where `prompt` is None.
        attention: of the tower, as in `GazedEncoder`; the towers of Qwen have `frame` only.
        window_tiles: likewise; not for Qwen.
        mean: likewise.
        std: likewise.
        kernel: likewise; not for Qwen.

    Raises:
        UsageError: a model of another layout, or one whose tower drops or keeps a class token that it lacks.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        prompt: Prompt | None = None,
        frame: str = "",
        attention: Rule = "frame",
        window_tiles: int | None = None,
        mean: Colour | None = None,
        std: Colour | None = None,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        family = FAMILIES.get(model.config.model_type)
        if family is None:
            raise UsageError(
                f"a model of type {model.config.model_type!r} does not take gazed tokens",
                remedy=f"give one of {', '.join(FAMILIES)} (its model_type)",
            )
        self.model = model
        self._family: Family = family(
            model,
            attention=attention,
            window_tiles=window_tiles,
            mean=mean,
            std=std,
            kernel=kernel,
        )
        self.encoder: nn.Module = self._family.encoder
        self.tokenizer = tokenizer
        self.prompt: Prompt = prompt or self._family.prompt(tokenizer, frame=frame)

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        device: torch.device | str = "cpu",
        template: str | None = None,
        frame: str = "",
        **kwargs: Any,
    ) -> Self:
        """Load a model and its tokenizer from a folder or the hub, in the type it is stored in.

        Only safetensors are read and no code of the model's is run. Where a `preprocessor_config.json` has
        `image_mean` and `image_std`, pixels are normalised by them.

        Args:
            path: folder or name on the hub.
            device: where the model goes.
            template: of `Prompt`; the tokenizer's chat template where None.
            frame: of `Prompt`.
            kwargs: of this class; `mean` and `std` go before the model's own.

        Raises:
            CheckpointError: it cannot be loaded.
            UsageError: it, or the template, is of no use here.
        """
        try:
            from transformers import AutoModelForImageTextToText, AutoTokenizer
        except ImportError as error:
            raise UsageError(
                "a multimodal model needs transformers, which is not installed",
                remedy="pip install gazepack[encoders]",
            ) from error
        prompt = Prompt(template=template, frame=frame) if template else None
        where: dict[str, Any] = {"local_files_only": not _is_on_hub(path)}
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                path, use_safetensors=True, trust_remote_code=False, dtype="auto", **where
            )
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **where)
        except _UNLOADABLE as error:
            raise CheckpointError(
                f"{path} holds no multimodal model with its tokenizer that transformers can load: {error}",
                remedy="save both there with save_pretrained, as safetensors",
            ) from error
        as_module: nn.Module = model
        as_module.to(device)
        kwargs = {**_colours(path, **where), **kwargs}
        return cls(model, tokenizer=tokenizer, prompt=prompt, frame=frame, **kwargs).eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        weight: Tensor = next(self.model.parameters())
        return weight.device

    def embed(self, batch: Batch) -> Features:
        """Return the tokens as the language model reads them, in the order of the batch."""
        return self._family.encode(batch)

    @run_eagerly
    def forward(self, batch: Batch, questions: Sequence[str]) -> Tensor:
        """Return the logits of the first token of the answers, S x V.

        Args:
            batch: S samples.
            questions: one for each.
        """
        videos = self.videos(batch, self.embed(batch))
        return self.next_token([self.row(v, q) for v, q in zip(videos, questions, strict=True)])

    def video(self, samples: Sequence[Batch]) -> Run:
        """Return a video that was packed in several samples.

        Args:
            samples: each a batch of one, in the order of time.
        """
        times = [time for sample in samples for time in sample.meta[0]["views"][0]["times"]]
        start = min(times, default=0.0)
        runs = [
            run
            for sample in samples
            for run in self.videos(sample, self.embed(sample), start_seconds=start)
        ]
        return in_line(runs) if self._frame_by_frame else in_one_box(runs)

    def videos(
        self, batch: Batch, features: Features, *, start_seconds: float | None = None
    ) -> list[Run]:
        """Put the tokens of each sample in the order of time, with the texts around each frame.

        Args:
            batch: the samples.
            features: their tokens, as `embed` gives them.
            start_seconds: when time begins for models that count it; at the first frame of each if None.
        """
        device = features.tokens_ND.device
        per_second = self._family.tokens_per_second
        place_N3 = mrope_positions(batch, tokens_per_second=per_second, start_seconds=start_seconds)
        whole = Run(
            embedded_LD=features.tokens_ND,
            place_L3=place_N3.to(device),
            extent=0,
            deepstack=features.deepstack,
        )
        bounds = batch.cu_seqlens.tolist()
        runs = []
        for a, b, meta in zip(bounds, bounds[1:], batch.meta, strict=False):
            views = meta["views"]
            every_V = torch.tensor([view.get("every", 1) for view in views])
            view_N, frame_N = batch.view[a:b].long().cpu(), batch.frame[a:b].long().cpu()
            key_N = frame_N * every_V[view_N] * len(views) + view_N
            order_N = key_N.argsort(stable=True)
            extent = TILE_SIDE * max(max(view["rows"], view["cols"]) for view in views)
            sample = replace(whole.at((a + order_N).to(device)), extent=extent)
            runs.append(self._by_frame(sample, key_N[order_N] // len(views), views[0]))
        return runs

    @property
    def _frame_by_frame(self) -> bool:
        """Whether each frame has a box of its own, and texts around it."""
        prompt = self.prompt
        return bool(prompt.frame or prompt.frame_end) or self._family.tokens_per_second is None

    def _by_frame(self, sample: Run, frame_N: Tensor, view: dict[str, Any]) -> Run:
        """Put the texts around the frames of a sample whose tokens are in the order of time."""
        if not self._frame_by_frame or not len(sample):
            return sample
        frames, counts = frame_N.unique_consecutive(return_counts=True)
        runs = []
        for frame, at_L in zip(
            frames.tolist(), torch.arange(len(sample)).split(counts.tolist()), strict=True
        ):
            tokens = sample.at(at_L.to(sample.place_L3.device))
            place_L3 = tokens.place_L3.clone()
            place_L3[:, 0] = 0
            before = ""
            if self.prompt.frame:
                seconds = view["times"][frame]
                before = self.prompt.before_frame(number=frame, seconds=seconds)
            runs += [
                *self._text(before),
                replace(tokens, place_L3=place_L3),
                *self._text(self.prompt.frame_end),
            ]
        return in_line(runs)

    def row(self, video: Run, question: str) -> Run:
        """Return a video in its prompt with a question."""
        before, after = self.prompt.around(question)
        return in_line([*self._text(before, starts=True), video, *self._text(after)])

    def _text(self, text: str, *, starts: bool = False) -> list[Run]:
        """Embed a text, with what the tokenizer puts before a text where it is the first; none of no tokens."""
        ids = self.tokenizer(text, add_special_tokens=starts)["input_ids"] if text or starts else []
        return [self._embedded(ids)] if ids else []

    def _embedded(self, ids: Sequence[int]) -> Run:
        ids_L = torch.tensor(ids, dtype=torch.int64, device=self.device)
        return Run.of_text(self.model.get_input_embeddings()(ids_L))

    def next_token(self, rows: Sequence[Run]) -> Tensor:
        """Return the logits of the token that follows each row, S x V."""
        hidden_SLD = self._hidden(rows)
        last = [hidden_LD[len(row) - 1] for hidden_LD, row in zip(hidden_SLD, rows, strict=True)]
        logits: Tensor = self.model.lm_head(torch.stack(last))
        return logits

    def log_likelihood(self, row: Run, continuation: str) -> Tensor:
        """Return the mean log-probability of a continuation's tokens after a row, a number."""
        ids = self.tokenizer(self.prompt.joint + continuation, add_special_tokens=False)[
            "input_ids"
        ]
        hidden_LD = self._hidden([in_line([row, self._embedded(ids[:-1])])])[0, -len(ids) :]
        logs = self.model.lm_head(hidden_LD).float().log_softmax(-1)
        mean: Tensor = logs[range(len(ids)), ids].mean()
        return mean

    def first_tokens(self, continuations: Sequence[str]) -> list[int]:
        """Return the token that stands for each continuation after the prompt: the last of a single letter.

        Raises:
            UsageError: the tokenizer has one token for two of them.
        """
        texts = [self.prompt.joint + text for text in continuations]
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in texts]
        if len(set(ids)) < len(ids):
            raise UsageError(
                f"the tokenizer does not tell {', '.join(continuations)} apart",
                remedy="score the text of the options instead: --score text",
            )
        return ids

    def _hidden(self, rows: Sequence[Run]) -> Tensor:
        """Run the language model; padding follows the rows, where causal attention never sees it."""
        depth = max(len(row.deepstack) for row in rows)
        return self._family.read(
            pad_sequence([row.embedded_LD for row in rows], batch_first=True),
            pad_sequence([row.place_L3 for row in rows], batch_first=True),
            [
                pad_sequence([row.layer(number) for row in rows], batch_first=True)
                for number in range(depth)
            ],
        )


def _is_on_hub(path: str) -> bool:
    """Tell a name on the hub from a folder; one that is cached counts as a folder where there is no hub.

    Raises:
        CheckpointError: there is no such folder, and no such name.
    """
    if Path(path).is_dir():
        return False
    remedy = "name a folder, or a model on the hub as OWNER/NAME"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise CheckpointError(f"there is no folder {path!r} with a model", remedy=remedy)
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError

    try:  # asked once and not for long: transformers would try six times for each of its files
        HfApi().model_info(path, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        problem = f"there is no folder {path!r}, and the hub shows no model of that name"
        raise CheckpointError(problem, remedy=remedy) from None
    except Exception as error:  # of the network, whichever client the hub's package has
        if isinstance(try_to_load_from_cache(path, "config.json"), str):
            return False
        problem = f"there is no folder {path!r}, and the hub cannot be asked ({error})"
        raise CheckpointError(problem, remedy=remedy) from error
    return True


def _colours(path: str, **where: Any) -> dict[str, Any]:
    """Return mean and std of a model's image processor, if it has one."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(path, **where)
    except OSError:
        return {}
    names = {"mean": "image_mean", "std": "image_std"}
    return {name: tuple(values[key]) for name, key in names.items() if key in values}
