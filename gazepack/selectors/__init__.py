"""Who chooses the tokens: AutoGaze, greedy painting, and what they are measured against."""

from gazepack.selectors.base import (
    ClipBatch,
    GazingRatio,
    Listed,
    Proposal,
    Proposer,
    Selection,
    Selector,
)
from gazepack.selectors.baselines import All, Difference, Random
from gazepack.selectors.choose import choose
from gazepack.selectors.gazing import Gazing
from gazepack.selectors.greedy import Greedy
from gazepack.selectors.settings import SelectorSettings, build
from gazepack.selectors.tiles import AsRead

__all__ = [
    "All",
    "AsRead",
    "ClipBatch",
    "Difference",
    "Gazing",
    "GazingRatio",
    "Greedy",
    "Listed",
    "Proposal",
    "Proposer",
    "Random",
    "Selection",
    "Selector",
    "SelectorSettings",
    "build",
    "choose",
]
