"""The batch plan of an epoch: which samples every rank gets at every step, before a byte is read.

The samples of an epoch stand in one canonical order (`order`). A step takes a run from the front of
what remains and deals it to the ranks, so what was consumed after any step is a prefix of that
order, whatever the number of ranks. That is the whole of elastic resuming: a plan starts at any
position, for any number of ranks, and depends on nothing that came before.

A step takes the longest run that it can deal so that no rank exceeds its budget, trying a full load
first and then ever more slack. Dealing is "longest first": samples in descending size, each to the
rank with the fewest tokens (Graham 1969). With 30 samples a batch the largest rank is usually
within 0.1 % of the mean. Where a few large samples meet and no run is even, up to `MAX_DEFERRED`
samples wait for the next step, which takes the first of them for certain; they are named in the
state. On a million long-tailed samples that keeps every step within 1 %, where dealing runs only
left one step in 17,419 at 14.5 %. What it gives up: inside a step, samples are not in shuffled
order of size, and a rank's share is a little below its budget (1 % at 30 samples a batch).

Nothing is lost and nothing occurs twice. Steps are equal on all ranks, so at the end of an epoch:
what remains is shared evenly by the last two steps, and only when fewer samples remain than there
are ranks do some ranks get an empty batch (or, with `drop_last`, nobody gets one).
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gazepack.errors import UsageError
from gazepack.loader.whole import whole

Ints = npt.NDArray[np.int64]

_SLACK_UNITS = 400
"""A step is tried with 0, 1, 2, 4, 8, ... of so many parts of its budget left free."""
_SLACK_FOR_BALANCE = 64
"""So many parts may be left free to make the ranks even; more only to make them fit."""
_EVEN = 1.01
"""The largest rank over the mean, as it should be."""
MAX_DEFERRED = 16
"""Most samples that wait for the next step, so that a state stays a few hundred bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimit:
    """How large a batch may be: so many tokens, or so many samples.

    Raises:
        UsageError: neither or both are given, or one is below 1.
    """

    tokens: int | None = None
    """Most tokens of a batch; a larger sample makes a batch by itself."""
    samples: int | None = None
    """Most samples of a batch."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.samples is None):
            raise UsageError(
                f"batch_tokens is {self.tokens} and batch_size is {self.samples}",
                remedy="give one of the two",
            )
        if self.tokens is not None:
            object.__setattr__(self, "tokens", whole("batch_tokens", self.tokens, least=1))
        if self.samples is not None:
            object.__setattr__(self, "samples", whole("batch_size", self.samples, least=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The steps of an epoch, or of what remains of it."""

    order: Ints
    """Positions of the samples in the index, in the order of the steps: the canonical order, but for
    samples that were deferred; int64."""
    ranks: npt.NDArray[np.int32]
    """The rank that gets each sample of `order`; int32, -1 for samples of no step."""
    bounds: Ints
    """Step s takes `order[bounds[s]:bounds[s + 1]]`; int64 of shape (steps + 1,)."""
    deferred: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By the number of samples consumed, where any wait: their places in the canonical order. All
    other samples before the last of these places are consumed."""

    @property
    def num_steps(self) -> int:
        """Steps of every rank."""
        return len(self.bounds) - 1

    def samples(self, step: int, *, rank: int) -> Ints:
        """Return the positions in the index of a rank's batch, in the order of the plan."""
        run = slice(self.bounds[step], self.bounds[step + 1])
        chosen: Ints = self.order[run][self.ranks[run] == rank]
        return chosen

    def loads(self, tokens: Ints, *, world_size: int) -> Ints:
        """Return the tokens of every batch, int64 of shape (steps, world_size).

        Args:
            tokens: of every sample of the index.
            world_size: the number of ranks of the plan.
        """
        first, last = int(self.bounds[0]), int(self.bounds[-1])
        step = np.repeat(np.arange(self.num_steps), np.diff(self.bounds))
        cell = step * world_size + self.ranks[first:last]
        loads = np.zeros(self.num_steps * world_size, dtype=np.int64)
        np.add.at(loads, cell, tokens[self.order[first:last]])
        return loads.reshape(self.num_steps, world_size)


def plan_steps(
    order: Ints,
    tokens: Ints,
    *,
    limit: BatchLimit,
    world_size: int,
    consumed: int = 0,
    deferred: Sequence[int] = (),
    drop_last: bool = False,
) -> Plan:
    """Plan the steps of all ranks from a position of the canonical order to its end.

    Args:
        order: positions of the samples in the index.
        tokens: of every sample of the index, at most.
        limit: of one rank's batch.
        world_size: number of ranks.
        consumed: samples of `order` that are done.
        deferred: ascending places in `order` that are not done although later ones are.
        drop_last: leave out a last step that has fewer samples than there are ranks.

    Returns:
        The plan; equal arguments give equal plans, and a plan from the end of any step on is the
        tail of the plan before it.
    """
    queue = _Queue.starting(tokens[order], consumed, deferred, limit)
    ranks = np.full(len(order), -1, dtype=np.int32)
    bounds = [consumed]
    waiting = {consumed: tuple(deferred)} if len(deferred) else {}
    while bounds[-1] < len(order):
        start = bounds[-1]
        if drop_last and len(order) - start < world_size:
            break
        if limit.samples is not None:
            dealt = _take_samples(queue.tokens, start, limit.samples, world_size)
        else:
            dealt = _take_tokens(queue, start, world_size)
        left = queue.put_back(start, dealt)
        dealt = dealt[dealt >= 0]
        end = start + len(dealt)
        ranks[start:end] = dealt
        bounds.append(end)
        if left:
            waiting[end] = left
    return Plan(
        order=order[queue.places],
        ranks=ranks,
        bounds=np.array(bounds, dtype=np.int64),
        deferred=waiting,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Queue:
    """The samples in the order in which steps take them; changed as samples are deferred."""

    places: Ints
    """The place of each in the canonical order."""
    tokens: Ints
    """Of each, at most."""
    ends: Ints
    """Their running sum, a larger sample counted as the budget it fills."""
    budget: int
    """Of one rank's batch in tokens; unused with a limit of samples."""

    @classmethod
    def starting(
        cls, ordered: Ints, consumed: int, deferred: Sequence[int], limit: BatchLimit
    ) -> "_Queue":
        """Return the queue: the consumed, the deferred, all others."""
        places = np.arange(len(ordered), dtype=np.int64)
        late = np.asarray(deferred, dtype=np.int64)
        frontier = consumed + len(late)
        places[:consumed] = np.setdiff1d(places[:frontier], late)
        places[consumed:frontier] = late
        tokens, budget = ordered[places], limit.tokens or 0
        ends = np.cumsum(tokens if limit.tokens is None else np.minimum(tokens, budget))
        return cls(places=places, tokens=tokens, ends=ends, budget=budget)

    def put_back(self, start: int, dealt: npt.NDArray[np.int32]) -> tuple[int, ...]:
        """Move the samples of a window that nobody got (-1) behind those that were dealt.

        Returns:
            The places of the samples that wait while later ones are done.
        """
        if (dealt >= 0).all():
            return self._waiting(start + len(dealt), start + len(dealt))
        window = slice(start, start + len(dealt))
        sort = np.argsort(dealt < 0, kind="stable")
        self.places[window] = self.places[window][sort]
        self.tokens[window] = self.tokens[window][sort]
        done = int(self.ends[start - 1]) if start else 0
        self.ends[window] = done + np.cumsum(np.minimum(self.tokens[window], self.budget))
        return self._waiting(start + int((dealt >= 0).sum()), start + len(dealt))

    def frontier(self, start: int) -> int:
        """Return the first position from `start` on whose sample never waited."""
        while start < len(self.places) and self.places[start] < start:
            start += 1
        return start

    def _waiting(self, end: int, frontier: int) -> tuple[int, ...]:
        """Return the places from `end` on before which a later one was done."""
        waiting = self.places[end : self.frontier(frontier)].tolist()
        while waiting and waiting[-1] == end + len(waiting) - 1:
            waiting.pop()
        return tuple(waiting)


def _take_samples(ordered: Ints, start: int, size: int, world_size: int) -> npt.NDArray[np.int32]:
    """Return the ranks of the next step's samples: the same number for each, tokens balanced."""
    remaining = len(ordered) - start
    count = _spare_the_last(min(remaining, size * world_size), remaining, world_size)
    most = -(-count // world_size)
    return deal(ordered[start : start + count], world_size=world_size, max_samples=most)


def _take_tokens(queue: _Queue, start: int, world_size: int) -> npt.NDArray[np.int32]:
    """Return the ranks of the next step's samples, as many as fit; -1 for those that wait."""
    ordered, ends = queue.tokens, queue.ends
    remaining = len(ordered) - start
    done = int(ends[start - 1]) if start else 0
    left = int(ends[-1]) - done
    full = queue.budget * world_size
    if full < left < full + full // 2:  # the last two steps share evenly
        full = left // 2
    least = min(world_size, remaining)
    slack = 0
    while True:
        budget = full - full * slack // _SLACK_UNITS
        count = int(np.searchsorted(ends, done + budget, side="right")) - start
        count = _spare_the_last(max(count, least), remaining, world_size)
        dealt = deal(ordered[start : start + count], world_size=world_size)
        loads = np.bincount(dealt, weights=ordered[start : start + count], minlength=world_size)
        counts = np.bincount(dealt, minlength=world_size)
        fits = bool(((loads <= queue.budget) | (counts <= 1)).all())
        unevenness = float(loads.max() * world_size / max(loads.sum(), 1))
        if fits and unevenness <= _EVEN:
            return dealt
        if count <= least or (fits and slack >= _SLACK_FOR_BALANCE):
            better = _deal_around(queue, start, full // world_size, world_size, unevenness)
            return dealt if better is None else better
        slack = min(max(1, 2 * slack), _SLACK_UNITS)


def _deal_around(
    queue: _Queue, start: int, budget: int, world_size: int, unevenness: float
) -> npt.NDArray[np.int32] | None:
    """Deal a run with some samples left out, or return None where that makes no rank more even.

    Windows of growing length are tried; the first of the queue always goes, so none waits for ever.
    """
    remaining = len(queue.tokens) - start
    done = int(queue.ends[start - 1]) if start else 0
    full = int(np.searchsorted(queue.ends, done + budget * world_size, side="right")) - start
    least = max(full, world_size, queue.frontier(start) - start)
    best = None
    for more in range(1, MAX_DEFERRED + 1):
        count = least + more
        if remaining - count < world_size:
            break
        window = queue.tokens[start : start + count]
        dealt = _deal_what_fits(window, budget=budget, world_size=world_size)
        taken = dealt >= 0
        loads = np.bincount(dealt[taken], weights=window[taken], minlength=world_size)
        ratio = float(loads.max() * world_size / max(loads.sum(), 1))
        num_waiting = count - int(taken.sum())
        if num_waiting <= MAX_DEFERRED and loads.min() > 0 and ratio < unevenness:
            best, unevenness = dealt, ratio
        if unevenness <= _EVEN:
            break
    return best


def _deal_what_fits(tokens: Ints, *, budget: int, world_size: int) -> npt.NDArray[np.int32]:
    """Deal as `deal` does, the first sample before all others, leaving out (-1) what fits nowhere."""
    loads = [(0, rank) for rank in range(world_size)]
    dealt = np.full(len(tokens), -1, dtype=np.int32)
    by_size = np.argsort(-tokens[1:], kind="stable") + 1
    for sample in [0, *by_size.tolist()]:
        load, rank = loads[0]
        size = int(tokens[sample])
        if load and load + size > budget:
            continue
        dealt[sample] = rank
        heapq.heapreplace(loads, (load + size, rank))
    return dealt


def _spare_the_last(count: int, remaining: int, world_size: int) -> int:
    """Return a count that leaves the last step a sample for every rank, where that can be."""
    if 0 < remaining - count < world_size and remaining >= 2 * world_size:
        return remaining - world_size
    return count


def deal(tokens: Ints, *, world_size: int, max_samples: int | None = None) -> npt.NDArray[np.int32]:
    """Deal the samples of one step to the ranks, largest first, each to the least loaded rank.

    Args:
        tokens: of each sample.
        world_size: number of ranks.
        max_samples: most samples of one rank.

    Returns:
        int32, the rank of each sample. No rank is left empty while another has two samples.
    """
    if world_size == 1:
        return np.zeros(len(tokens), dtype=np.int32)
    loads = [(0, 0, rank) for rank in range(world_size)]
    dealt = np.empty(len(tokens), dtype=np.int32)
    by_size = np.argsort(-tokens, kind="stable")
    for sample, size in zip(by_size.tolist(), tokens[by_size].tolist(), strict=True):
        load, count, rank = loads[0]
        dealt[sample] = rank
        if count + 1 == max_samples:
            heapq.heappop(loads)
        else:
            heapq.heapreplace(loads, (load + size, count + 1, rank))
    return dealt
