"""Attention over ragged sequences, without padding, under any transformer's own layers.

A batch is one row of tokens: sequences one after the other, each a run of blocks, one block a frame. Four rules
say who sees whom, always inside one sequence only:

    frame           a token sees its own block: frames are independent images
    block_causal    its own block and the earlier ones: what AutoGaze was published with
    causal          the tokens before it, and itself
    bidirectional   all of them

On a CPU, and everywhere with `kernel="sdpa"`, PyTorch's scaled dot-product attention runs once a block or
sequence, and no mask is ever made. On a GPU, flex attention runs once for all of them, with a block-sparse mask
made once a batch; it has no attention dropout.

transformers' models call this through their attention interface (`register`). Models that call
`scaled_dot_product_attention` themselves, as timm's do, run inside `Rerouted`.

    legend   H  heads     N  tokens of the batch     D  width of a head
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from gazepack.errors import UsageError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Rule = Literal["frame", "block_causal", "causal", "bidirectional"]
Kernel = Literal["auto", "sdpa", "flex"]

Given = ParamSpec("Given")
Result = TypeVar("Result")

IMPLEMENTATION = "gazepack"
"""The name under which transformers knows this attention."""


def run_eagerly(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Keep `torch.compile` out of a function: it would compile it anew for the lengths of every batch.

    What is compiled inside, such as the layers of a model, stays so.
    """

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Ask at every call, since what `torch.compiler.disable` imports takes seconds."""
        if torch.compiler.is_compiling():
            eager: Callable[Given, Result] = torch.compiler.disable(function)
            return eager(*args, **kwargs)
        return function(*args, **kwargs)

    return run


class RaggedAttention:
    """The attention of one batch.

    Args:
        rule: who sees whom.
        lengths: tokens of each block.
        blocks_of_sequence: blocks of each sequence, in the same order.
        device: where the tokens are.
        kernel: `auto` is flex attention on a GPU and scaled dot-product attention elsewhere.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        lengths: Sequence[int],
        blocks_of_sequence: Sequence[int],
        device: torch.device,
        kernel: Kernel = "auto",
    ) -> None:
        self.rule = rule
        bounds = [0, *accumulate(blocks_of_sequence)]
        self._sequences = [list(lengths[a:b]) for a, b in pairwise(bounds)]
        uses_flex = kernel == "flex" or (kernel == "auto" and device.type == "cuda")
        self._mask = self._block_mask(device) if uses_flex else None

    @run_eagerly
    def __call__(
        self,
        query_1HND: Tensor,
        key_1HND: Tensor,
        value_1HND: Tensor,
        *,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attend.

        Args:
            query_1HND: a floating type.
            key_1HND: the same.
            value_1HND: the same.
            scale: of the products; one over the root of D where None.
            dropout: share of attention weights that are dropped.

        Returns:
            1 x H x N x D.

        Raises:
            UsageError: dropout with flex attention.
        """
        if self._mask is None:
            return self._in_parts((query_1HND, key_1HND, value_1HND), scale, dropout)
        if dropout:
            raise UsageError(
                f"flex attention has no dropout, the model asks for {dropout:g}",
                remedy='set its attention dropout to 0, or use kernel="sdpa"',
            )
        output: Tensor = _flex(compiled=query_1HND.is_cuda)(
            query_1HND, key_1HND, value_1HND, block_mask=self._mask, scale=scale
        )
        return output

    def _in_parts(
        self, qkv: tuple[Tensor, Tensor, Tensor], scale: float | None, dropout: float
    ) -> Tensor:
        """Attend block by block, or sequence by sequence where these are larger."""
        lengths = [sum(blocks) for blocks in self._sequences]
        if self.rule == "frame":
            lengths = [length for blocks in self._sequences for length in blocks]
        outputs = []
        # split, not sliced: its gradient is one concatenation
        for number, (q, k, v) in enumerate(zip(*(x.split(lengths, 2) for x in qkv), strict=True)):
            ends = [k.shape[2]]
            if self.rule == "block_causal":
                ends = list(accumulate(self._sequences[number]))
            starts = [0, *ends[:-1]]
            for start, end in zip(starts, ends, strict=True):
                part = scaled_dot_product_attention(
                    q[:, :, start:end],
                    k[:, :, :end],
                    v[:, :, :end],
                    scale=scale,
                    dropout_p=dropout,
                    is_causal=self.rule == "causal",
                )
                outputs.append(part)
        return torch.cat(outputs, dim=2) if outputs else qkv[2]

    def _block_mask(self, device: torch.device) -> "BlockMask":
        """Say who sees whom in flex attention's words."""
        from torch.nn.attention.flex_attention import create_block_mask

        lengths = torch.tensor([n for blocks in self._sequences for n in blocks], device=device)
        block_N = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
        blocks = torch.tensor([len(blocks) for blocks in self._sequences], device=device)
        sequence_B = torch.arange(len(blocks), device=device).repeat_interleave(blocks)
        sequence_N = sequence_B[block_N]
        num = len(block_N)

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
            """Tell whether a query sees a key."""
            same = sequence_N[query] == sequence_N[key]
            match self.rule:
                case "frame":
                    return block_N[query] == block_N[key]
                case "block_causal":
                    return same & (block_N[query] >= block_N[key])
                case "causal":
                    return same & (query >= key)
                case "bidirectional":
                    return same

        return create_block_mask(
            sees, None, None, num, num, device=device, _compile=device.type == "cuda"
        )


@cache
def _flex(*, compiled: bool) -> Callable[..., Any]:
    """Return flex attention, whose import takes seconds; it is compiled once a process, for any lengths."""
    from torch.nn.attention.flex_attention import flex_attention

    attend: Any = torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
    return attend  # type: ignore[no-any-return]  # PyTorch declares it as no callable


def register() -> None:
    """Make this attention known to transformers; calls that bring no `RaggedAttention` get its own."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def forward(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: RaggedAttention | Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as transformers asks for it; returns 1 x N x H x D."""
        if not isinstance(attention_mask, RaggedAttention):
            attended: tuple[Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, **kwargs
            )
            return attended
        scale, dropout = kwargs.get("scaling"), kwargs.get("dropout", 0.0)
        output_1HND = attention_mask(query, key, value, scale=scale, dropout=dropout)
        return output_1HND.transpose(1, 2).contiguous(), None

    AttentionInterface.register(IMPLEMENTATION, forward)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


class Rerouted(TorchFunctionMode):
    """Inside, `scaled_dot_product_attention` is the attention of a batch, in this thread only.

    Args:
        attention: what is done instead.

    Attributes:
        calls: how often it was asked for.
    """

    def __init__(self, attention: RaggedAttention) -> None:
        super().__init__()
        self.attention = attention
        self.calls: int = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Do what was asked for, but for attention."""
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.calls += 1
        scale, dropout = kwargs.get("scale"), kwargs.get("dropout_p", 0.0)
        return self.attention(*args, scale=scale, dropout=dropout)
