"""The shape of an AutoGaze network, read from the published `config.json` layout.

The nested names are those of the published files, so a checkpoint from the hub loads unchanged and
one written here loads there. Keys that only steer the published training code are ignored; values
that would change the arithmetic in a way this package does not implement are refused. Three fields
are gazepack's own: `memory`, `decode_positions` and `loss_unit`.
"""

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gazepack.errors import CheckpointError
from gazepack.geometry import TILE_SIDE, TILE_TOKENS

END = TILE_TOKENS
"""The token after the 265 tile ids: the end of a frame, never chosen while decoding."""
VOCABULARY = TILE_TOKENS + 1
CELLS = TILE_SIDE * TILE_SIDE
"""Vision tokens per frame: one for each finest patch."""
MAX_LAYERS = 1024
"""The most layers of a kind: more would take long to be found missing in the weights."""
MAX_WIDTH = 2**20
"""The most numbers of a layer's input or output."""
INPUT_SIDE = 224
"""Side of the square the network looks at, in pixels."""


class _Part(BaseModel):
    """What all parts share: frozen, and deaf to the keys of the published training code."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")


class RopeScaling(_Part):
    """Llama 3's slowing of the low rotary frequencies."""

    factor: float = Field(default=8.0, gt=0)
    low_freq_factor: float = Field(default=1.0, gt=0)
    high_freq_factor: float = Field(default=4.0, gt=0)
    original_max_position_embeddings: int = Field(default=8192, gt=0)
    rope_type: Literal["llama3"] = "llama3"


class VisionConfig(_Part):
    """The encoder: patch embedding, causal convolutions in time, projection."""

    hidden_dim: int = Field(default=192, gt=0, le=MAX_WIDTH)
    out_dim: int = Field(default=192, gt=0, le=MAX_WIDTH)
    depth: int = Field(default=1, ge=1, le=MAX_LAYERS)
    kernel_size: Literal[16] = 16
    temporal_patch_size: Literal[1] = 1
    trunk_temporal_kernel_size: int = Field(default=3, ge=1, le=MAX_LAYERS)
    trunk_spatial_kernel_size: Literal[1, 3, 5, 7] = 3


class ConnectorConfig(_Part):
    """The learned position of each cell."""

    hidden_dim: int = Field(default=192, gt=0, le=MAX_WIDTH)


class DecoderConfig(_Part):
    """The Llama stack with heads for several tokens and losses at once."""

    hidden_size: int = Field(default=192, gt=0, le=MAX_WIDTH)
    intermediate_size: int = Field(default=384, gt=0, le=MAX_WIDTH)
    max_position_embeddings: int = Field(default=131072, gt=0)
    num_attention_heads: int = Field(default=6, gt=0, le=MAX_WIDTH)
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    num_hidden_layers: int = Field(default=4, ge=1, le=MAX_LAYERS)
    num_multi_token_pred: int = Field(default=10, ge=1, le=CELLS)
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    rope_theta: float = Field(default=500000.0, gt=1)
    rope_scaling: RopeScaling = RopeScaling()
    initializer_range: float = Field(default=0.02, gt=0)
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    tie_word_embeddings: Literal[False] = False

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} does not split into "
                f"{self.num_attention_heads} heads of an even size"
            )
        if self.num_key_value_heads not in (None, self.num_attention_heads):
            raise ValueError("num_key_value_heads must equal num_attention_heads")
        if self.head_dim not in (None, self.head_size):
            raise ValueError(f"head_dim must be {self.head_size}")
        return self

    @property
    def head_size(self) -> int:
        """Numbers in one attention head."""
        return self.hidden_size // self.num_attention_heads


class GazeModelConfig(_Part):
    """Encoder, connector and decoder together."""

    input_img_size: Literal[224] = 224
    vision_model_config: VisionConfig = VisionConfig()
    connector_config: ConnectorConfig = ConnectorConfig()
    gaze_decoder_config: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        widths = (
            self.vision_model_config.out_dim,
            self.connector_config.hidden_dim,
            self.gaze_decoder_config.hidden_size,
        )
        if len(set(widths)) > 1:
            raise ValueError(
                "vision out_dim, connector hidden_dim and decoder hidden_size must be equal, "
                f"got {widths[0]}, {widths[1]} and {widths[2]}"
            )
        return self


class AutoGazeConfig(_Part):
    """A whole AutoGaze model, as `config.json` describes it.

    The defaults are the published model; a file without gazepack's own three fields is one.
    """

    scales: Literal["32+64+112+224"] = "32+64+112+224"
    num_vision_tokens_each_frame: Literal[265] = 265
    use_flash_attn: bool = False
    gaze_model_config: GazeModelConfig = GazeModelConfig()
    memory: Literal["tokens", "canvas"] = "tokens"
    """What is known of earlier frames: every token that was fed, as published, or what the canvas holds (see
    `canvas`). The second has no convolution in time, one 3 x 3 block for each of the encoder's `depth`."""
    decode_positions: Literal["published", "contiguous"] = "published"
    """Positions of the steps inside a frame: frozen at the frame's last K cells, or counting on."""
    loss_unit: Literal["none", "negative_psnr"] = "none"
    """What the predicted losses measure: nothing this package can check, or minus the PSNR in dB of the
    painted tile before that token was added, so that 30 dB is a threshold of -30."""

    @property
    def vision(self) -> VisionConfig:
        """The encoder's part."""
        return self.gaze_model_config.vision_model_config

    @property
    def decoder(self) -> DecoderConfig:
        """The decoder's part."""
        return self.gaze_model_config.gaze_decoder_config

    @classmethod
    def default(cls) -> Self:
        """Return what gazepack trains: the canvas as memory, contiguous positions, loss in dB."""
        model = GazeModelConfig(
            vision_model_config=VisionConfig(depth=2, trunk_temporal_kernel_size=1),
            gaze_decoder_config=DecoderConfig(num_hidden_layers=2),
        )
        return cls(
            gaze_model_config=model,
            memory="canvas",
            decode_positions="contiguous",
            loss_unit="negative_psnr",
        )

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "config.json") -> Self:
        """Parse the text of a `config.json`.

        Args:
            text: the JSON text.
            source: how to call the file in an error.

        Raises:
            CheckpointError: not JSON, or a field whose value this package does not implement.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise CheckpointError(
                f"{source}: {field}: {first['msg']}, got {str(first['input'])[:80]!r}",
                remedy="give the config.json of an AutoGaze checkpoint",
            ) from error

    def to_json(self) -> str:
        """Return the text of a `config.json` that the published code reads too."""
        return self.model_dump_json(indent=1, exclude_none=True) + "\n"
