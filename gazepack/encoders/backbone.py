"""What the adapter asks of a vision transformer, whoever wrote it.

A backbone calls the model's own modules and methods, so hooks, low-rank adapters, quantised layers and gradient
checkpointing go on working, and nothing of the model is copied.

    legend   N  tokens     P  side of a patch     D  width     F  prefix tokens of a frame
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from gazepack.encoders.attention import RaggedAttention

Colour = tuple[float, float, float]
"""Of red, green and blue, from 0 to 1."""


class Backbone(Protocol):
    """A vision transformer in the parts that the adapter puts together."""

    @property
    def model(self) -> nn.Module:
        """The vision transformer itself."""

    @property
    def patch_size(self) -> int:
        """Side of a patch, in pixels."""

    @property
    def mean(self) -> Colour:
        """What the model was trained to have subtracted from pixels of 0 to 1."""

    @property
    def std(self) -> Colour:
        """What they are divided by then."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The transformer's layers, in order."""

    def project(self, pixels_N3PP: Tensor) -> Tensor:
        """Return N x D: the patches as the model embeds them, without positions."""

    def positions(self, rows: int, cols: int) -> Tensor:
        """Return rows * cols x D: the model's positions for an image of so many patches."""

    def prefix(self) -> Tensor:
        """Return F x D: the tokens that the model puts before each image, with their positions."""

    def start(self, tokens_1ND: Tensor) -> Tensor:
        """Do what the model does between the embedding and the first layer."""

    def run(
        self, layers: Sequence[nn.Module], tokens_1ND: Tensor, attention: RaggedAttention
    ) -> Tensor:
        """Run layers under the given attention."""

    def finish(self, tokens_1ND: Tensor) -> Tensor:
        """Do what the model does between the last layer and its `last_hidden_state`."""
