"""What a language model reads: runs of text and runs of a video's tokens, one after the other.

A run has places besides its embeddings: (t, h, w) of each token for models with M-RoPE, where those of text go
up by one and those of a video lie in a box that text goes on behind. Others count what they read, and look at
none.

    legend   L  what stands in a run     D  width of the language model     3  time, height, width
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A stretch of what is read."""

    embedded_LD: Tensor
    """What the language model is given."""
    place_L3: Tensor
    """int64, from 0."""
    extent: int
    """How far behind its start the next run starts."""
    deepstack: tuple[Tensor, ...] = ()
    """What is added behind the first layers, L x D each; nothing where it ends early."""

    def __len__(self) -> int:
        return len(self.embedded_LD)

    @classmethod
    def of_text(cls, embedded_LD: Tensor) -> "Run":
        """Return a run of text."""
        place_L = torch.arange(len(embedded_LD), device=embedded_LD.device)
        return cls(
            embedded_LD=embedded_LD,
            place_L3=place_L[:, None].expand(-1, 3),
            extent=len(embedded_LD),
        )

    def at(self, order_L: Tensor) -> "Run":
        """Return some of it, in the given order, in the same box."""
        return replace(
            self,
            embedded_LD=self.embedded_LD[order_L],
            place_L3=self.place_L3[order_L],
            deepstack=tuple(layer_LD[order_L] for layer_LD in self.deepstack),
        )

    def layer(self, number: int) -> Tensor:
        """Return what is added behind a layer: zeros where there is nothing."""
        if number < len(self.deepstack):
            return self.deepstack[number]
        return torch.zeros_like(self.embedded_LD)


def in_line(runs: Sequence[Run]) -> Run:
    """Put runs behind each other: each starts where the one before ends."""
    places, start = [], 0
    for run in runs:
        places.append(run.place_L3 + start)
        start += run.extent
    return _together(runs, places, extent=start)


def in_one_box(runs: Sequence[Run]) -> Run:
    """Put runs behind each other, all in the same box: parts of one video, with one time."""
    return _together(runs, [run.place_L3 for run in runs], extent=max(run.extent for run in runs))


def _together(runs: Sequence[Run], places: Sequence[Tensor], *, extent: int) -> Run:
    depth = max(len(run.deepstack) for run in runs)
    return Run(
        embedded_LD=torch.cat([run.embedded_LD for run in runs]),
        place_L3=torch.cat(list(places)),
        extent=extent,
        deepstack=tuple(torch.cat([run.layer(number) for run in runs]) for number in range(depth)),
    )
