"""What a run will cost, before it runs: some of its videos are really packed, and the rest is in proportion.

The sample is drawn from the listing by a seed, so the same listing gives the same sample. Amounts are taken to
be proportional to the bytes of the sources (to their number, where sizes are unknown). The interval is a
bootstrap: the sample is drawn again from itself 2,000 times, and the middle 90 % of the estimates is given. It
knows nothing of what the sample did not contain; a corpus of many kinds needs a larger one.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gazepack.formats import DatasetDirectory
from gazepack.jobs.decoders import Decoders
from gazepack.jobs.nursery import Nursery
from gazepack.jobs.plan import Unit
from gazepack.jobs.segment import Segment
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.sources import list_sources
from gazepack.jobs.unit import Resources, VideoDone, pack_unit
from gazepack.selectors import Selector

_DRAWS = 2000
_INTERVAL = (5, 95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """An estimate with its interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What packing everything will take."""

    videos: int
    """In the listing."""
    sampled: int
    """Videos that were packed for this estimate."""
    failed: int
    """Of the sample."""
    source_bytes: int
    """Of all videos; 0 if unknown."""
    frames: Amount
    tokens: Amount
    bytes: Amount
    """Of the shards."""
    worker_hours: Amount
    """Of one worker such as this machine; n workers take an n-th."""


def estimate(
    sources: Sequence[str],
    *,
    settings: PackSettings,
    selector: Selector,
    resources: Resources,
    sample: int,
    seed: int = 0,
    nursery: Nursery | None = None,
) -> Estimate:
    """Pack a sample into a temporary folder, and project.

    Args:
        sources: what would be packed; see `list_sources`.
        settings: as for packing.
        selector: made from `settings.selector`.
        resources: what decides the speed.
        sample: how many videos to pack at most.
        seed: of the draws.
        nursery: where decoders come from; an own one if `None`.

    Raises:
        SourceError: there is nothing to pack.
    """
    listing = list_sources(sources)
    chance = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(chance.permutation(listing.num_rows)[:sample])
    segments = [Segment.from_row(row) for row in listing.take(chosen).to_pylist()]
    weights = np.maximum(listing["bytes"].to_numpy(), 0).astype(np.float64)
    if not weights.all():
        weights = np.ones(listing.num_rows)
    with Decoders(settings, resources.decoders, nursery=nursery) as decoders:
        decoders.warm_up()
        found_N4, failed = _measure(segments, settings, selector, resources, decoders)
    draws_DN = chance.integers(0, len(segments), (_DRAWS, len(segments)))
    whole = weights.sum()
    ratio_D4 = found_N4[draws_DN].sum(1) / weights[chosen][draws_DN].sum(1)[:, None]
    value_4 = found_N4.sum(0) / weights[chosen].sum() * whole
    low_4, high_4 = np.percentile(ratio_D4 * whole, _INTERVAL, axis=0)
    amounts = [
        Amount(low=float(low), value=float(value), high=float(high))
        for low, value, high in zip(low_4, value_4, high_4, strict=True)
    ]
    frames, tokens, num_bytes, hours = amounts
    return Estimate(
        videos=listing.num_rows,
        sampled=len(segments),
        failed=failed,
        source_bytes=int(listing["bytes"].to_numpy().sum()),
        frames=frames,
        tokens=tokens,
        bytes=num_bytes,
        worker_hours=hours,
    )


def _measure(
    segments: Sequence[Segment],
    settings: PackSettings,
    selector: Selector,
    resources: Resources,
    decoders: Decoders,
) -> tuple[npt.NDArray[np.float64], int]:
    """Pack each segment by itself.

    Returns:
        Frames, tokens, bytes and hours of each (N x 4), and how many failed.
    """
    codec = settings.make_codec()
    rows, failed = [], 0
    with tempfile.TemporaryDirectory(prefix="gazepack-plan-") as folder:
        directory = DatasetDirectory.create_or_open(folder, settings.dataset_info(selector))
        for number, segment in enumerate(segments):
            done: list[VideoDone] = []
            began = time.monotonic()
            pack_unit(
                Unit(number=number, segments=(segment,)),
                directory,
                settings=settings,
                selector=selector,
                codec=codec,
                decoders=decoders,
                resources=resources,
                report=done.append,
            )
            hours = (time.monotonic() - began) / 3600
            (video,) = done
            failed += video.error is not None
            size = directory.shard_facts(number).size
            rows.append((video.frames, video.tokens, size, hours))
            directory.storage.remove(directory.shard_name(number))
    return np.asarray(rows, dtype=np.float64), failed
