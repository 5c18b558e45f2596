"""A batch: the tokens of some samples, one after the other, never padded.

legend   N  tokens of all samples      S  samples      P  side of a patch in pixels
         6  `gazepack.formats.TOKEN_FIELDS`            3  red, green, blue
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from gazepack.formats import TOKEN_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """S samples with N tokens in all; sample s owns the tokens `cu_seqlens[s]:cu_seqlens[s + 1]`.

    A batch is empty (S = N = 0) when all its samples were skipped, or in the last step of an epoch
    that has fewer samples left than there are ranks.
    """

    patches: torch.Tensor
    """uint8 N x 3 x P x P, RGB."""
    view: torch.Tensor
    """int32 N: position in `meta[s]["views"]`."""
    frame: torch.Tensor
    """int32 N: position in that view's `times`."""
    scale: torch.Tensor
    """int32 N: 0 (coarse) to 3."""
    row: torch.Tensor
    """int32 N: over the whole view at that scale."""
    col: torch.Tensor
    """int32 N: over the whole view at that scale."""
    rank: torch.Tensor
    """int32 N: position in the gaze order of the frame."""
    loss: torch.Tensor
    """float32 N: the selector's loss before the token was added; NaN where unknown."""
    cu_seqlens: torch.Tensor
    """int32 S + 1: where each sample's tokens start and end, as variable-length attention takes it."""
    meta: list[dict[str, Any]]
    """One dictionary a sample: its metadata (`key`, `id`, `source`, `views`, `user`, ...), the
    user's members as `fields` (name to bytes) and, with `join`, the row as `joined`."""
    skipped: tuple[str, ...] = ()
    """One line for every damaged sample that was left out (`on_error="skip"`)."""
    state: dict[str, Any] | None = None
    """What `GazeDataset.load_state_dict` takes to go on after this batch; None for `dataset[key]`."""

    @property
    def num_samples(self) -> int:
        """Samples (S)."""
        return len(self.meta)

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples (N)."""
        return int(self.patches.shape[0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch with all tensors on a device; types and values stay."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Any) -> Self:
        tensors = {
            field.name: function(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return dataclasses.replace(self, **tensors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One sample on its way into a batch."""

    tokens_N6: npt.NDArray[np.uint16]
    """All tokens of the sample."""
    loss_N: npt.NDArray[np.float16]
    """As stored."""
    patches_NPP3: npt.NDArray[np.uint8]
    """As decoded."""
    kept: npt.NDArray[np.int64] | None
    """The tokens that stay; None for all."""
    meta: dict[str, Any]
    """Its entry in `Batch.meta`."""

    @property
    def num_tokens(self) -> int:
        """Tokens that stay."""
        return len(self.tokens_N6) if self.kept is None else len(self.kept)


def collate(
    parts: Sequence[Part],
    *,
    patch_size: int,
    skipped: Sequence[str] = (),
    state: dict[str, Any] | None = None,
) -> Batch:
    """Return the samples as one batch; each patch is copied once, to its place."""
    counts = np.array([part.num_tokens for part in parts], dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    num_tokens = int(bounds[-1])
    patches_N3PP = np.empty((num_tokens, 3, patch_size, patch_size), dtype=np.uint8)
    tokens_6N = np.empty((len(TOKEN_FIELDS), num_tokens), dtype=np.int32)
    loss_N = np.empty(num_tokens, dtype=np.float32)
    for part, start, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
        kept = slice(None) if part.kept is None else part.kept
        patches_N3PP[start:end] = part.patches_NPP3[kept].transpose(0, 3, 1, 2)
        tokens_6N[:, start:end] = part.tokens_N6[kept].T
        loss_N[start:end] = part.loss_N[kept]
    columns = {name: torch.from_numpy(c) for name, c in zip(TOKEN_FIELDS, tokens_6N, strict=True)}
    return Batch(
        patches=torch.from_numpy(patches_N3PP),
        **columns,
        loss=torch.from_numpy(loss_N),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        meta=[part.meta for part in parts],
        skipped=tuple(skipped),
        state=state,
    )
