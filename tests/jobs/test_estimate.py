"""The estimate before the bill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import SourceError
from gazepack.formats import DatasetDirectory, summarise
from gazepack.jobs import Nursery, PackSettings, Resources
from gazepack.jobs.estimate import Estimate, estimate
from gazepack.selectors import build

SETTINGS = {
    "shards": {"samples_per_shard": 2},
    "fit": {"max_tiles": 2},
    "selector": {"name": "greedy"},
}


def estimated(
    source: Path, sample: int, nursery: Nursery | None = None, container: str = "webdataset"
) -> Estimate:
    settings = PackSettings.parse({**SETTINGS, "container": container})
    return estimate(
        [str(source)],
        settings=settings,
        selector=build(settings.selector, device="cpu"),
        resources=Resources(),
        sample=sample,
        nursery=nursery,
    )


def test_a_sample_of_everything_is_the_truth(
    videos: Path, tmp_path: Path, pack: Callable[..., Any], nursery: Nursery
) -> None:
    """With every video in the sample, frames and tokens are those that packing gives, inside the interval."""
    pack(videos, tmp_path / "out", SETTINGS)
    truth = summarise(DatasetDirectory.open(str(tmp_path / "out")))
    found = estimated(videos, 100, nursery)
    assert (found.videos, found.sampled, found.failed) == (7, 7, 2)
    for amount, name in ((found.frames, "frames"), (found.tokens, "tokens")):
        assert amount.value == pytest.approx(truth[name])
        assert 0 < amount.low <= amount.value <= amount.high
    assert found.worker_hours.value > 0


def test_the_same_listing_gives_the_same_sample(videos: Path, nursery: Nursery) -> None:
    """What does not depend on a clock is the same every time."""
    first, second = (estimated(videos, 3, nursery) for _ in range(2))
    assert (first.frames, first.tokens, first.bytes) == (second.frames, second.tokens, second.bytes)
    assert first.sampled == 3


def test_nothing_to_pack_is_one_line(tmp_path: Path) -> None:
    """An empty folder has no estimate."""
    with pytest.raises(SourceError, match="holds no video"):
        estimated(tmp_path, 3)


def test_bytes_are_those_of_the_container(
    videos: Path, tmp_path: Path, pack: Callable[..., Any], nursery: Nursery
) -> None:
    """One video takes what its shard takes, in the container that is asked for."""
    found = {}
    for container in ("webdataset", "arrow"):
        out = tmp_path / container
        pack(videos / "clip0.mp4", out, {**SETTINGS, "container": container})
        found[container] = estimated(videos / "clip0.mp4", 2, nursery, container).bytes.value
        size = DatasetDirectory.open(str(out)).shard_facts(0).size
        assert found[container] == pytest.approx(size)
    assert found["webdataset"] != found["arrow"]
