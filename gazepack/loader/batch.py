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

from gazepack.errors import DatasetError, UsageError
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

    def pixels(
        self,
        device: torch.device | str | None = None,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Return the patches as a network takes them: (x / 255 - mean) / std, N x 3 x P x P.

        The bytes go to the device first and become numbers there, so a quarter of float32 is
        transferred, without waiting where the batch is pinned.

        Args:
            device: where the result lies; the batch's own by default.
            mean: of red, green and blue, from 0 to 1.
            std: likewise, above 0.
            dtype: a floating type; the arithmetic is in float32.

        Raises:
            UsageError: `mean` or `std` are not three numbers, or a deviation is not above 0.
        """
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UsageError(f"mean {list(mean)} and std {list(std)} are not three numbers each")
        moved = self.patches.to(device, non_blocking=True) if device else self.patches
        device = moved.device
        scale_3 = torch.tensor([1 / (255 * s) for s in std], device=device)
        shift_3 = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
        scale, shift = scale_3.view(1, 3, 1, 1), shift_3.view(1, 3, 1, 1)
        return torch.addcmul(shift, moved, scale).to(dtype)

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


class BatchBuilder:
    """Memory for a batch, filled sample by sample: each patch is copied once, to its place.

    Args:
        capacity: most tokens of all samples.
        patch_size: side of every patch, in pixels.
        pin_memory: whether the memory is page-locked, from where a GPU copies without a detour.
    """

    def __init__(self, capacity: int, *, patch_size: int, pin_memory: bool = False) -> None:
        shape = (capacity, 3, patch_size, patch_size)
        self._capacity = capacity
        self._patches_N3PP = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
        self._tokens_6N = torch.empty(
            (len(TOKEN_FIELDS), capacity), dtype=torch.int32, pin_memory=pin_memory
        )
        self._loss_N = torch.empty(capacity, dtype=torch.float32, pin_memory=pin_memory)
        self._pin_memory = pin_memory
        self._bounds = [0]
        self._meta: list[dict[str, Any]] = []

    def add(
        self,
        *,
        tokens_N6: npt.NDArray[np.uint16],
        loss_N: npt.NDArray[np.float16],
        patches_NPP3: npt.NDArray[np.uint8],
        kept: npt.NDArray[np.int64] | None,
        meta: dict[str, Any],
    ) -> None:
        """Append a sample.

        Args:
            tokens_N6: all its tokens.
            loss_N: as stored.
            patches_NPP3: as decoded.
            kept: the tokens that stay; None for all.
            meta: its entry in `Batch.meta`.

        Raises:
            DatasetError: it has more tokens than there is room for: the index counts fewer.
        """
        start = self._bounds[-1]
        count = len(tokens_N6) if kept is None else len(kept)
        end = start + count
        if end > self._capacity:
            raise DatasetError(
                f"it has {count} tokens where the index counts at most {self._capacity - start}",
                place=f"sample {meta.get('key')}",
            )
        which = slice(None) if kept is None else kept
        self._patches_N3PP.numpy()[start:end] = patches_NPP3[which].transpose(0, 3, 1, 2)
        self._tokens_6N.numpy()[:, start:end] = tokens_N6[which].T
        self._loss_N.numpy()[start:end] = loss_N[which]
        self._bounds.append(end)
        self._meta.append(meta)

    def finish(self, *, skipped: Sequence[str] = (), state: dict[str, Any] | None = None) -> Batch:
        """Return the batch; nothing is copied, so the builder is not to be used any more."""
        end = self._bounds[-1]
        bounds = torch.tensor(self._bounds, dtype=torch.int32)
        columns = dict(zip(TOKEN_FIELDS, self._tokens_6N[:, :end], strict=True))
        return Batch(
            patches=self._patches_N3PP[:end],
            **columns,
            loss=self._loss_N[:end],
            cu_seqlens=bounds.pin_memory() if self._pin_memory else bounds,
            meta=self._meta,
            skipped=tuple(skipped),
            state=state,
        )
