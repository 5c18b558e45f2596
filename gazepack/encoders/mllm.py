"""Gazed tokens into a multimodal language model of the LLaVA layout.

Such a model is a vision tower, a projector that takes feature by feature, and a causal language model:
`LlavaForConditionalGeneration` of transformers. Its own tower encodes the tokens of a batch (`GazedEncoder`),
its own projector takes them to the width of the language model, and they stand in the prompt where the picture
would, frame by frame in the order of time, of one frame in gaze order. With all finest patches and attention
`frame`, the default, this is the model itself on the frames as so many pictures.

Other layouts are refused: pooled, resampled or shuffled features need their neighbours, which gazed tokens do
not all have.

    legend   N  tokens     D  width of the language model     L  places of a row
             S  samples    V  vocabulary
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gazepack.encoders.attention import Kernel, Rule
from gazepack.encoders.backbone import Colour
from gazepack.encoders.encoder import GazedEncoder
from gazepack.encoders.prompt import Prompt
from gazepack.errors import CheckpointError, UsageError
from gazepack.loader import Batch

_UNLOADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a folder that is missing, damaged, of unknown kind, or in want of a package."""
HUB_SECONDS = 10.0
"""How long the hub may take to say whether it has a model."""


class GazedMllm(nn.Module):
    """A multimodal language model that takes the loader's batches.

    Args:
        model: a `LlavaForConditionalGeneration` of transformers whose tower `GazedEncoder` takes.
        tokenizer: the model's.
        prompt: what stands around the video; that of the tokenizer's chat template where None.
        attention: of the tower, as in `GazedEncoder`.
        window_tiles: likewise.
        mean: likewise.
        std: likewise.
        kernel: likewise.

    Raises:
        UsageError: a model of another layout, or one whose tower drops or keeps a class token that it lacks.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        prompt: Prompt | None = None,
        attention: Rule = "frame",
        window_tiles: int | None = None,
        mean: Colour | None = None,
        std: Colour | None = None,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        config = model.config
        if config.model_type != "llava":
            raise UsageError(
                f"a model of type {config.model_type!r} does not take gazed tokens",
                remedy="give one of the LLaVA layout (model_type llava): tower, projector, language model",
            )
        if not isinstance(config.vision_feature_layer, int):
            raise UsageError(
                f"the model joins the hidden states {config.vision_feature_layer} of its tower",
                remedy="give one that takes a single vision_feature_layer",
            )
        self.model = model
        self.encoder = GazedEncoder(
            model.model.vision_tower,
            attention=attention,
            window_tiles=window_tiles,
            hidden_state=config.vision_feature_layer,
            mean=mean,
            std=std,
            kernel=kernel,
        )
        if (config.vision_feature_select_strategy == "default") != self.encoder.has_prefix:
            raise UsageError(
                f"vision_feature_select_strategy {config.vision_feature_select_strategy!r} of the model "
                f"does not fit a tower with{'' if self.encoder.has_prefix else 'out'} class token",
                remedy="gazed features leave out class tokens, so take default with one and full without",
            )
        self.tokenizer = tokenizer
        self.prompt = prompt or Prompt.of_chat(
            tokenizer, image_token=_image_token(model, tokenizer)
        )

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
        if prompt is None:
            image_token = _image_token(model, tokenizer)
            prompt = Prompt.of_chat(tokenizer, image_token=image_token, frame=frame)
        kwargs = {**_colours(path, **where), **kwargs}
        return cls(model, tokenizer=tokenizer, prompt=prompt, **kwargs).eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.device

    def embed(self, batch: Batch) -> Tensor:
        """Return the tokens as the language model reads them, N x D, in the order of the batch."""
        embedded: Tensor = self.model.model.multi_modal_projector(self.encoder(batch))
        return embedded

    def forward(self, batch: Batch, questions: Sequence[str]) -> Tensor:
        """Return the logits of the first token of the answers, S x V.

        Args:
            batch: S samples.
            questions: one for each.
        """
        videos = self.videos(batch, self.embed(batch))
        return self.next_token([self.row(v, q) for v, q in zip(videos, questions, strict=True)])

    def videos(self, batch: Batch, embedded_ND: Tensor) -> list[Tensor]:
        """Put the tokens of each sample in the order of time, with the text before each frame: L x D each."""
        bounds = batch.cu_seqlens.tolist()
        return [
            self._in_time(embedded_ND[a:b], batch.frame[a:b], batch.view[a:b], meta["views"])
            for a, b, meta in zip(bounds, bounds[1:], batch.meta, strict=False)
        ]

    def _in_time(
        self, embedded_ND: Tensor, frame_N: Tensor, view_N: Tensor, views: list[dict[str, Any]]
    ) -> Tensor:
        """Put the tokens of one sample in order: by frame, then by view, then as they were gazed at."""
        every_V = torch.tensor([view.get("every", 1) for view in views], device=view_N.device)
        key_N = frame_N.long() * every_V[view_N.long()] * len(views) + view_N
        key_N = key_N.to(embedded_ND.device)
        order_N = key_N.argsort(stable=True)
        embedded_ND = embedded_ND[order_N]
        if not self.prompt.frame or not len(order_N):
            return embedded_ND
        frames, counts = (key_N[order_N] // len(views)).unique_consecutive(return_counts=True)
        parts = []
        for frame, tokens in zip(frames.tolist(), embedded_ND.split(counts.tolist()), strict=True):
            seconds = views[0]["times"][frame]
            text = self.prompt.before_frame(number=frame, seconds=seconds)
            parts += [self._text(text), tokens]
        return torch.cat(parts)

    def row(self, video_LD: Tensor, question: str) -> Tensor:
        """Return a video in its prompt with a question, L x D."""
        before, after = self.prompt.around(question)
        return torch.cat((self._text(before, starts=True), video_LD, self._text(after)))

    def _text(self, text: str, *, starts: bool = False) -> Tensor:
        """Embed a text, with what the tokenizer puts before a text where it is the first."""
        return self._embedded(self.tokenizer(text, add_special_tokens=starts)["input_ids"])

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        ids_L = torch.tensor(ids, dtype=torch.int64, device=self.device)
        embedded: Tensor = self.model.get_input_embeddings()(ids_L)
        return embedded

    def next_token(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the logits of the token that follows each row, S x V."""
        hidden_SLD = self._hidden(rows)
        last = [hidden_LD[len(row) - 1] for hidden_LD, row in zip(hidden_SLD, rows, strict=True)]
        logits: Tensor = self.model.lm_head(torch.stack(last))
        return logits

    def log_likelihood(self, row_LD: Tensor, continuation: str) -> Tensor:
        """Return the mean log-probability of a continuation's tokens after a row, a number."""
        ids = self.tokenizer(self.prompt.joint + continuation, add_special_tokens=False)[
            "input_ids"
        ]
        row_LD = torch.cat((row_LD, self._embedded(ids[:-1])))
        hidden_LD = self._hidden([row_LD])[0, -len(ids) :]
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

    def _hidden(self, rows: Sequence[Tensor]) -> Tensor:
        """Run the language model; padding follows the rows, where causal attention never sees it."""
        padded_SLD = pad_sequence(list(rows), batch_first=True)
        hidden: Tensor = self.model.model.language_model(
            inputs_embeds=padded_SLD, use_cache=False
        ).last_hidden_state
        return hidden


def _image_token(model: Any, tokenizer: Any) -> str:
    """Return what stands for a picture in the model's texts."""
    return str(tokenizer.convert_ids_to_tokens(getattr(model.config, "image_token_id", None) or 0))


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
