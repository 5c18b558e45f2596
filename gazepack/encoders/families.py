"""The multimodal models that take gazed tokens: how each encodes a batch, and how its language model reads.

Each calls the model's own tower, projector or merger, and language model.

    legend   N  tokens     S  samples     L  places of a row     D  width of the language model
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gazepack.encoders.attention import Kernel, Rule
from gazepack.encoders.backbone import Colour
from gazepack.encoders.encoder import GazedEncoder
from gazepack.encoders.prompt import VIDEO, Prompt
from gazepack.encoders.qwen import Features, GazedQwenTower
from gazepack.errors import UsageError
from gazepack.loader import Batch


class Family(Protocol):
    """What `GazedMllm` asks of a multimodal model."""

    @property
    def encoder(self) -> nn.Module:
        """What takes a batch: `GazedEncoder` or `GazedQwenTower`."""

    @property
    def tokens_per_second(self) -> float | None:
        """How far time moves on in a second, of `mrope_positions`; None where a frame has a box of its own."""

    def encode(self, batch: Batch) -> Features:
        """Return the tokens of a batch as the language model reads them."""

    def prompt(self, tokenizer: Any, *, frame: str) -> Prompt:
        """Return the prompt of the tokenizer's chat template, with a text before each frame."""

    def read(self, embedded_SLD: Tensor, place_SL3: Tensor, deepstack: Sequence[Tensor]) -> Tensor:
        """Return the last hidden states of the language model, S x L x D."""


class Llava:
    """Tower, projector, language model: `LlavaForConditionalGeneration`.

    Args:
        model: one of transformers.
        attention: of the tower, as in `GazedEncoder`.
        window_tiles: likewise.
        mean: likewise.
        std: likewise.
        kernel: likewise.

    Raises:
        UsageError: it joins layers of its tower, or drops or keeps a class token that the tower lacks.
    """

    tokens_per_second: float | None = None

    def __init__(
        self,
        model: Any,
        *,
        attention: Rule,
        window_tiles: int | None,
        mean: Colour | None,
        std: Colour | None,
        kernel: Kernel,
    ) -> None:
        config = model.config
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

    def encode(self, batch: Batch) -> Features:
        """Encode, and project token by token."""
        projected: Tensor = self.model.model.multi_modal_projector(self.encoder(batch))
        return Features(tokens_ND=projected, deepstack=())

    def prompt(self, tokenizer: Any, *, frame: str) -> Prompt:
        """Return the prompt of the chat template."""
        return Prompt.of_chat(
            tokenizer, image_token=_image_token(self.model, tokenizer), frame=frame
        )

    def read(
        self,
        embedded_SLD: Tensor,
        place_SL3: Tensor,  # noqa: ARG002 (it counts what it reads)
        deepstack: Sequence[Tensor],  # noqa: ARG002 (there is none)
    ) -> Tensor:
        """Run the language model."""
        return _last_hidden(self.model, inputs_embeds=embedded_SLD)


class Qwen:
    """Qwen2.5-VL and Qwen3-VL: a tower that merges, and a language model with M-RoPE.

    Args:
        model: `Qwen2_5_VLForConditionalGeneration` or `Qwen3VLForConditionalGeneration` of transformers.
        attention: `frame`, as the towers have it.
        window_tiles: None.
        mean: as in `GazedQwenTower`.
        std: likewise.
        kernel: `auto`: the tower's own attention is called.

    Raises:
        UsageError: another attention, windows or kernel.
    """

    def __init__(
        self,
        model: Any,
        *,
        attention: Rule,
        window_tiles: int | None,
        mean: Colour | None,
        std: Colour | None,
        kernel: Kernel,
    ) -> None:
        if (attention, window_tiles, kernel) != ("frame", None, "auto"):
            raise UsageError(
                f"the tower of {model.config.model_type} sees frame by frame, in windows of its own",
                remedy="leave out attention, window_tiles and kernel",
            )
        self.model = model
        self.encoder = GazedQwenTower(model.model.visual, mean=mean, std=std)
        self._is_qwen3 = model.config.model_type == "qwen3_vl"

    @property
    def tokens_per_second(self) -> float | None:
        """The model's own; Qwen3-VL has none, since the text before each frame tells its time."""
        if self._is_qwen3:
            return None
        return float(self.model.config.vision_config.tokens_per_second)

    def encode(self, batch: Batch) -> Features:
        """Encode and merge."""
        return self.encoder.encode(batch)

    def prompt(self, tokenizer: Any, *, frame: str) -> Prompt:
        """Return the prompt of the chat template; Qwen3-VL's has a time before each frame, and marks around."""
        prompt = Prompt.of_chat(
            tokenizer, image_token=_image_token(self.model, tokenizer), frame=frame
        )
        ids = [self.model.config.vision_start_token_id, self.model.config.vision_end_token_id]
        start, end = tokenizer.convert_ids_to_tokens(ids)
        around = f"{start}{VIDEO}{end}"
        if not self._is_qwen3 or around not in prompt.template:
            return prompt
        return Prompt(
            template=prompt.template.replace(around, VIDEO),
            frame=(frame or "<{seconds} seconds>") + start,
            frame_end=end,
        )

    def read(self, embedded_SLD: Tensor, place_SL3: Tensor, deepstack: Sequence[Tensor]) -> Tensor:
        """Run the language model, which adds `deepstack` behind its first layers."""
        inner = {}
        if deepstack:
            everywhere_SL = torch.ones(
                embedded_SLD.shape[:2], dtype=torch.bool, device=embedded_SLD.device
            )
            inner = {
                "visual_pos_masks": everywhere_SL,
                "deepstack_visual_embeds": [layer_SLD.flatten(0, 1) for layer_SLD in deepstack],
            }
        places = place_SL3.permute(2, 0, 1)
        return _last_hidden(self.model, inputs_embeds=embedded_SLD, position_ids=places, **inner)


FAMILIES: dict[str, type[Llava] | type[Qwen]] = {
    "llava": Llava,
    "qwen2_5_vl": Qwen,
    "qwen3_vl": Qwen,
}
"""By the `model_type` of the configuration."""


def _last_hidden(model: Any, **given: Any) -> Tensor:
    """Run the language model of a multimodal model."""
    hidden: Tensor = model.model.language_model(use_cache=False, **given).last_hidden_state
    return hidden


def _image_token(model: Any, tokenizer: Any) -> str:
    """Return what stands for a picture in the model's texts."""
    return str(tokenizer.convert_ids_to_tokens(getattr(model.config, "image_token_id", None) or 0))
