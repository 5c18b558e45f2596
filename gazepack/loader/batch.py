"""A batch: the tokens of some samples, one after the other, never padded.

Patches are N x 3 x P x P, as networks take them, and lie in memory pixel by pixel (`torch.channels_last`),
as codecs give them. So a codec decodes straight into the batch, page-locked or not, and nothing is moved a
second time on the CPU; the colours are taken apart where that costs nothing, on the device. What it gives up:
`patches.view(N, -1)` is refused by PyTorch, `patches.flatten(1)` copies.

legend   N  tokens of all samples      S  samples      P  side of a patch in pixels
         6  `gazepack.formats.TOKEN_FIELDS`            3  red, green, blue
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import TOKEN_FIELDS, LooseSample
from gazepack.loader.memory import BatchMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalise:
    """How bytes become the numbers that a network takes: (x / 255 - mean) / std.

    Raises:
        UsageError: `mean` or `std` are not three numbers, a deviation is not above 0, or the type is none
            of floating point.
    """

    mean: Sequence[float]
    """Of red, green and blue, from 0 to 1."""
    std: Sequence[float]
    """Likewise, above 0."""
    dtype: torch.dtype = torch.float32
    """Of the result; the arithmetic is in float32."""

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UsageError(
                f"mean {list(self.mean)} and std {list(self.std)} are not three numbers each",
                remedy="give them for red, green and blue, every std above 0",
            )
        if not self.dtype.is_floating_point:
            raise UsageError(f"{self.dtype} is no floating type", remedy="give torch.float32")

    def __call__(self, patches_N3PP: torch.Tensor) -> torch.Tensor:
        """Return uint8 patches as contiguous numbers, on their device."""
        device = patches_N3PP.device
        scale_3 = torch.tensor([1 / (255 * s) for s in self.std])
        shift_3 = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)])
        scale, shift = (x.view(3, 1, 1).to(device, non_blocking=True) for x in (scale_3, shift_3))
        numbers = patches_N3PP.to(torch.float32, memory_format=torch.contiguous_format)
        return torch.addcmul(shift, numbers, scale, out=numbers).to(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Batch:
    """S samples with N tokens in all; sample s owns the tokens `cu_seqlens[s]:cu_seqlens[s + 1]`.

    A batch is empty (S = N = 0) when all its samples were skipped, or in the last step of an epoch
    that has fewer samples left than there are ranks.
    """

    patches: torch.Tensor
    """uint8 N x 3 x P x P, RGB, in the memory format `torch.channels_last`; contiguous numbers after
    `to(..., normalise=...)`."""
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

    def __repr__(self) -> str:
        patches = self.patches
        size, dtype = patches.shape[-1], str(patches.dtype).removeprefix("torch.")
        counts = f"{self.num_samples:,} samples, {self.num_tokens:,} tokens"
        return f"<Batch of {counts} of {size} px, {dtype}, {patches.device}>"

    @property
    def num_samples(self) -> int:
        """Samples (S)."""
        return len(self.meta)

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples (N)."""
        return int(self.patches.shape[0])

    def to(
        self,
        device: torch.device | str,
        *,
        non_blocking: bool = False,
        normalise: Normalise | None = None,
    ) -> Self:
        """Return the batch with all tensors on a device.

        Args:
            device: where they go.
            non_blocking: whether not to wait, where the batch is pinned.
            normalise: makes the patches numbers, after the bytes went to the device, so that a quarter of
                float32 is transferred; without it, types and values stay.
        """
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        if normalise is None:
            return moved
        return dataclasses.replace(moved, patches=normalise(moved.patches))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        tensors: dict[str, Any] = {
            field.name: function(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return dataclasses.replace(self, **tensors)


class BatchBuilder:
    """Memory for a batch, filled sample by sample: codecs decode to their place in it (`room`).

    Args:
        capacity: most tokens of all samples.
        patch_size: side of every patch, in pixels.
        memory: where that of the patches comes from, unless it is page-locked.
        pin_memory: whether the memory is page-locked, from where a GPU copies without a detour.
    """

    def __init__(
        self,
        capacity: int,
        *,
        patch_size: int,
        memory: BatchMemory | None = None,
        pin_memory: bool = False,
    ) -> None:
        shape = (capacity, patch_size, patch_size, 3)
        self._capacity = capacity
        if pin_memory:
            self._patches = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:
            self._patches = (memory or BatchMemory()).take(math.prod(shape)).view(shape)
        self._tokens = torch.empty(
            (len(TOKEN_FIELDS), capacity), dtype=torch.int32, pin_memory=pin_memory
        )
        self._loss = torch.empty(capacity, dtype=torch.float32, pin_memory=pin_memory)
        self._patches_NPP3: npt.NDArray[np.uint8] = self._patches.numpy()
        self._tokens_SN6: list[npt.NDArray[np.uint16]] = []
        self._loss_SN: list[npt.NDArray[np.float16]] = []
        self._pin_memory = pin_memory
        self._bounds = [0]
        self._meta: list[dict[str, Any]] = []

    def room(self, num_tokens: int, *, place: str = "") -> npt.NDArray[np.uint8]:
        """Return where the next sample's patches go, uint8 N x P x P x 3; `place` is for the message.

        Raises:
            DatasetError: a sample of so many tokens does not fit: the index counts fewer.
        """
        start = self._bounds[-1]
        if start + num_tokens > self._capacity:
            raise DatasetError(
                f"it has {num_tokens} tokens where the index counts at most {self._capacity - start}",
                place=place,
            )
        return self._patches_NPP3[start : start + num_tokens]

    def add(
        self,
        sample: LooseSample,
        *,
        meta: dict[str, Any],
        kept: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Append a sample.

        Args:
            sample: its patches are copied, unless they are what `room` gave.
            meta: its entry in `Batch.meta`.
            kept: the tokens that stay; None for all.

        Raises:
            DatasetError: it has more tokens than there is room for: the index counts fewer.
        """
        assert sample.patches_NPP3 is not None  # `GazeDataset` asked for who cuts them
        which = slice(None) if kept is None else kept
        tokens_N6 = sample.tokens_N6[which]
        place_NPP3 = self.room(len(tokens_N6), place=f"sample {sample.key}")
        if not np.may_share_memory(sample.patches_NPP3, place_NPP3):
            place_NPP3[...] = sample.patches_NPP3[which]
        self._tokens_SN6.append(tokens_N6)
        self._loss_SN.append(sample.loss_N[which])
        self._bounds.append(self._bounds[-1] + len(tokens_N6))
        self._meta.append(meta)

    def finish(self, *, skipped: Sequence[str] = (), state: dict[str, Any] | None = None) -> Batch:
        """Return the batch; nothing is copied, so the builder is not to be used any more."""
        end = self._bounds[-1]
        if self._meta:  # all samples at a time: asking numpy takes longer than a sample's numbers
            self._tokens.numpy()[:, :end] = np.concatenate(self._tokens_SN6).T
            self._loss.numpy()[:end] = np.concatenate(self._loss_SN)
        bounds = torch.tensor(self._bounds, dtype=torch.int32)
        columns = dict(zip(TOKEN_FIELDS, self._tokens[:, :end], strict=True))
        return Batch(
            patches=self._patches[:end].permute(0, 3, 1, 2),
            **columns,
            loss=self._loss[:end],
            cu_seqlens=bounds.pin_memory() if self._pin_memory else bounds,
            meta=self._meta,
            skipped=tuple(skipped),
            state=state,
        )
