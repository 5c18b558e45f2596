"""Small datasets of random samples, whose tokens tell from which sample they come."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.formats import DatasetDirectory, DatasetInfo, Sample, codec_from
from gazepack.loader import Batch, GazeDataset

PATCH_SIZE = 4
MakeDataset = Callable[..., str]


def build_sample(key: str, *, tokens: Sequence[int], patch_size: int = PATCH_SIZE) -> Sample:
    """Return a sample with `tokens[f]` tokens in frame f of a 1 x 1 grid, from fixed randomness."""
    rng = np.random.default_rng(sum(key.encode()) * 1000 + sum(tokens))
    rows: list[tuple[int, ...]] = []
    for frame, count in enumerate(tokens):
        places = [
            (s, r, c)
            for s, side in enumerate((2, 4, 7, 14))
            for r in range(side)
            for c in range(side)
        ]
        for rank, place in enumerate(rng.permutation(len(places))[:count]):
            rows.append((0, frame, *places[place], rank))
    num_tokens = len(rows)
    loss_N = rng.random(num_tokens).astype(np.float16)
    loss_N[rng.random(num_tokens) < 0.1] = np.nan
    return Sample(
        key=key,
        tokens_N6=np.array(rows, dtype=np.uint16).reshape(-1, 6),
        loss_N=loss_N,
        patches_NPP3=rng.integers(0, 256, (num_tokens, patch_size, patch_size, 3), dtype=np.uint8),
        meta=build_meta(key, tokens=tokens, patch_size=patch_size),
        fields={"txt": f"caption of {key}".encode()},
    )


def build_meta(key: str, *, tokens: Sequence[int], patch_size: int) -> dict[str, Any]:
    """Return complete metadata for `build_sample`."""
    source = {"bytes": 1, "codec": "h264", "width": 8, "height": 8, "display_width": 8}
    source |= {"display_height": 8, "fps": 2.0, "duration_seconds": None, "start_seconds": 0.0}
    view = {"name": "tiles", "rows": 1, "cols": 1, "patch_size": patch_size}
    view |= {"times": [f / 2 for f in range(len(tokens))], "tokens": list(tokens)}
    view |= {"psnr": [30.0] * len(tokens), "l1": [2.0] * len(tokens)}
    meta = {"format_version": 1, "key": key, "id": f"video of {key}", "window": 0}
    meta |= {"first_frame": 0, "clip_frames": 16, "source": source | {"end_seconds": None}}
    return meta | {"views": [view], "user": {"n": len(tokens)}}


def random_counts(num_samples: int, *, seed: int = 0, most: int = 40) -> list[list[int]]:
    """Return tokens per frame for samples of 1 to 3 frames, long-tailed."""
    rng = np.random.default_rng(seed)
    return [
        np.minimum(rng.geometric(0.15, rng.integers(1, 4)), most).tolist()
        for _ in range(num_samples)
    ]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Return a function that writes a dataset and returns its folder.

    Its arguments: tokens per frame of each sample, a name, samples per shard, the patch size, what
    keys start with and the container.
    """

    def make(
        counts: Sequence[Sequence[int]],
        *,
        name: str = "packed",
        per_shard: int = 7,
        patch_size: int = PATCH_SIZE,
        prefix: str = "s",
        container: str = "webdataset",
    ) -> str:
        info = DatasetInfo(
            codec=codec_from("zstd").settings(), patch_size=patch_size, container=container
        )
        directory = DatasetDirectory.create_or_open(str(tmp_path / name), info)
        samples = [
            build_sample(f"{prefix}{i:04d}", tokens=tokens, patch_size=patch_size)
            for i, tokens in enumerate(counts)
        ]
        for shard, start in enumerate(range(0, len(samples), per_shard)):
            directory.write_shard(shard, samples[start : start + per_shard])
        return directory.uri

    return make


@pytest.fixture
def packed(make_dataset: MakeDataset) -> str:
    """The folder of a dataset of 45 samples in 7 shards."""
    return make_dataset(random_counts(45))


def keys_of(batches: Sequence[Batch]) -> list[str]:
    """Return the keys of all samples of some batches, in order."""
    return [meta["key"] for batch in batches for meta in batch.meta]


def check_same(batches: Sequence[Batch], expected: Sequence[Batch]) -> None:
    """Compare everything that batches hold, bit by bit."""
    for batch, same in zip(batches, expected, strict=True):
        assert (batch.meta, batch.state) == (same.meta, same.state)
        for name in ("patches", "view", "frame", "scale", "row", "col", "rank", "cu_seqlens"):
            assert getattr(batch, name).equal(getattr(same, name))
        assert np.array_equal(batch.loss, same.loss, equal_nan=True)


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """A function that compares two lists of batches bit by bit."""
    return check_same


@pytest.fixture(scope="session")
def keys() -> Callable[[Sequence[Batch]], list[str]]:
    return keys_of


@pytest.fixture(scope="session")
def counts() -> Callable[..., list[list[int]]]:
    return random_counts


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    return build_sample


@pytest.fixture(scope="session")
def assert_tail() -> Callable[..., None]:
    """The law of resuming: restore at every step, compare the tail.

    The function takes `make(world_size=, rank=) -> GazeDataset`, the world size before and the one
    after, and checks that for a restart after any step, what is given out before and after is each
    sample of the epoch once; and with the same world size, that the batches are the same.
    """

    def check(make: Callable[..., GazeDataset], before: int, after: int) -> None:
        whole = [list(make(world_size=before, rank=rank)) for rank in range(before)]
        everything = sorted(keys_of([batch for rank in whole for batch in rank]))
        steps = {len(batches) for batches in whole}
        assert len(steps) == 1, "ranks have different numbers of steps"
        for step in range(steps.pop() - 1):
            states = [batches[step].state for batches in whole]
            assert all(state == states[0] for state in states)
            assert states[0] is not None
            tails = []
            for rank in range(after):
                dataset = make(world_size=after, rank=rank)
                dataset.load_state_dict(states[0])
                assert dataset.state_dict() == states[0]
                tails.append(list(dataset))
            done = [batch for batches in whole for batch in batches[: step + 1]]
            rest = [batch for batches in tails for batch in batches]
            assert sorted(keys_of(done) + keys_of(rest)) == everything
            assert len({len(batches) for batches in tails}) == 1
            if before == after:
                for batches, tail in zip(whole, tails, strict=True):
                    expected = [[m["key"] for m in b.meta] for b in batches[step + 1 :]]
                    assert [[m["key"] for m in b.meta] for b in tail] == expected

    return check
