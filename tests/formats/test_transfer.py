"""Conversions, merges, splits and repairs."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import DatasetError, ProvenanceError, UsageError
from gazepack.formats import (
    CODECS,
    DatasetDirectory,
    DatasetInfo,
    Failure,
    codec_from,
    verify_shard,
)
from gazepack.formats.transfer import Part, Transfer, TransferSettings, parts_by_share

FAILURE = Failure(id="f", uri="u", stage="open", error="VideoError", message="m", attempts=1)


@pytest.fixture
def source(tmp_path, make_sample):
    """A dataset of three shards with 2, 0 and 3 samples, in jpeg."""
    info = DatasetInfo(codec=codec_from("jpeg").settings(), patch_size=16, provenance={"a": 1})
    dataset = DatasetDirectory.create_or_open(str(tmp_path / "source"), info)
    dataset.write_shard(0, [make_sample(f"a{i}", seed=i) for i in range(2)], [FAILURE])
    dataset.write_shard(1, [])
    tokens = ((), (3, 3), (16, 16, 16, 16, 16))
    dataset.write_shard(4, [make_sample(f"b{i}", tokens=t) for i, t in enumerate(tokens)])
    return dataset


def samples(dataset):
    """Return all samples in order."""
    return [sample for number in dataset.committed() for sample in dataset.iter_samples(number)]


def files(dataset):
    """Return every file below the root."""
    return {name: dataset.storage.read_bytes(name) for name in dataset.storage.list()}


def transfer(sources, out, part=None, **settings):
    """Run a transfer and return its target."""
    task = Transfer(sources, str(out), settings=TransferSettings(**settings), part=part)
    assert list(task.run()) == list(task.pending)
    assert all(verify_shard(task.target, number) == [] for number in task.target.committed())
    return task.target


@pytest.mark.parametrize("container", ["webdataset", "arrow"])
@pytest.mark.parametrize("codec", ["jpeg", "raw", "webp"])
@pytest.mark.parametrize("samples_per_shard", [None, 1, 4])
def test_a_conversion_keeps_every_pixel(
    container, codec, samples_per_shard, source, tmp_path, same
):
    """Any container, codec and shard size: the same samples in the same order, and the failures."""
    target = transfer(
        [source],
        tmp_path / "out",
        container=container,
        codec=codec_from(codec).settings(),
        samples_per_shard=samples_per_shard,
    )
    for left, right in zip(samples(target), samples(source), strict=True):
        same(left, right)
    sizes = [target.index(number).num_rows for number in target.committed()]
    assert sizes == {None: [2, 0, 3], 1: [1] * 5, 4: [4, 1]}[samples_per_shard]
    assert target.failures()["id"].to_pylist() == ["f"]


def test_patches_of_the_same_codec_are_carried_over(source, tmp_path):
    """A lossy codec that stays is not applied twice: the members are equal byte by byte, there and back."""
    arrow = transfer([source], tmp_path / "arrow", container="arrow")
    back = transfer([arrow], tmp_path / "back", container="webdataset")
    for number, again in zip(source.committed(), back.committed(), strict=True):
        name, other = source.shard_name(number), back.shard_name(again)
        assert source.storage.read_bytes(name) == back.storage.read_bytes(other)


def test_a_lossy_codec_is_refused(source, tmp_path):
    """Errors are measured at packing; a conversion that changes pixels would make them untrue."""
    for quality in (95, 90):
        zstd = transfer([source], tmp_path / "zstd", codec=codec_from("zstd").settings())
        codec = codec_from("jpeg", quality=quality).settings()
        with pytest.raises(UsageError, match=r"changes pixels, .*; pack the videos again"):
            Transfer([zstd], str(tmp_path / "x"), settings=TransferSettings(codec=codec))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("done", [1, 2, 3])
def test_an_interrupted_transfer_goes_on_to_the_same_bytes(done, source, tmp_path):
    """Stopped after any shard, started again: every file equals that of an undisturbed run."""
    whole = transfer([source], tmp_path / "whole", samples_per_shard=2)
    settings = TransferSettings(samples_per_shard=2)
    steps = Transfer([source], str(tmp_path / "stopped"), settings=settings).run()
    assert [next(steps) for _ in range(done)] == list(range(done))
    steps.close()
    again = Transfer([source], str(tmp_path / "stopped"), settings=settings)
    assert again.pending == tuple(range(done, 3))
    list(again.run())
    assert files(again.target) == files(whole)


KILLED = """
import os, signal, sys
from gazepack.formats import DatasetDirectory
from gazepack.formats.shard import ShardWriter
from gazepack.formats.transfer import Transfer, TransferSettings

written = []
write = ShardWriter.write

def dying(writer, sample):
    written.append(sample.key)
    if len(written) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(writer, sample)

ShardWriter.write = dying
settings = TransferSettings(samples_per_shard=2, container="arrow")
list(Transfer([DatasetDirectory.open(sys.argv[1])], sys.argv[2], settings=settings).run())
"""


@pytest.mark.parametrize("sample", [1, 4])
def test_a_killed_transfer_goes_on_to_the_same_bytes(sample, source, tmp_path):
    """SIGKILL in the middle of a shard: what was committed is whole, the rest follows, no byte differs."""
    whole = transfer([source], tmp_path / "whole", samples_per_shard=2, container="arrow")
    out = tmp_path / "killed"
    line = [sys.executable, "-c", KILLED, source.uri, str(out), str(sample)]
    assert subprocess.run(line, check=False, timeout=600).returncode == -signal.SIGKILL
    killed = DatasetDirectory.open(str(out))
    assert killed.committed() == list(range((sample - 1) // 2))
    assert killed.remove_leftovers()
    again = transfer([source], out, samples_per_shard=2, container="arrow")
    assert files(again) == files(whole)


def test_a_target_of_another_source_is_refused(source, tmp_path, make_sample):
    """Once the source has more samples, the target begun from fewer is another dataset."""
    target = transfer([source], tmp_path / "out")
    source.write_shard(5, [make_sample("late")])
    before = files(target)
    with pytest.raises(ProvenanceError, match=r"provenance\.transferred\.sha256"):
        transfer([source], tmp_path / "out")
    assert files(target) == before


def test_a_damaged_source_ends_the_transfer(source, tmp_path):
    """A sample that cannot be read is never left out in silence; what was committed stays."""
    damage(source, 4, "b1")
    task = Transfer([source], str(tmp_path / "out"), settings=TransferSettings())
    with pytest.raises(DatasetError, match=r"shards/000004\.tar: sample b1: the checksum is wrong"):
        list(task.run())
    assert task.target.committed() == [0, 1]


def damage(dataset, number, key):
    """Flip a bit of a sample's patches."""
    (row,) = (row for row in dataset.index(number).to_pylist() if row["key"] == key)
    path = Path(dataset.uri) / dataset.shard_name(number)
    data = bytearray(path.read_bytes())
    data[row["members"][3]["offset"] + 3] ^= 1
    path.write_bytes(data)


def test_a_repair_leaves_damaged_samples_out_and_says_so(source, tmp_path, same):
    """The copy is whole, lacks only what is damaged, and has that on record; the damaged one is untouched."""
    good = samples(source)
    damage(source, 4, "b1")
    index = Path(source.uri) / source.index_name(0)
    index.write_bytes(index.read_bytes()[:50])
    before = files(source)
    task = Transfer([source], str(tmp_path / "out"), settings=TransferSettings(drops_damaged=True))
    list(task.run())
    assert all(verify_shard(task.target, number) == [] for number in task.target.committed())
    kept = [sample for sample in good if sample.key in ("b0", "b2")]
    for left, right in zip(samples(task.target), kept, strict=True):
        same(left, right)
    assert [p.place for p in task.dropped] == [
        "index/000000.parquet",
        "shards/000004.tar: sample b1",
    ]
    assert task.target.failures()["id"].to_pylist() == ["f", "Ünïcode id/b1\n"]
    assert files(source) == before


def test_a_merge_is_all_samples_in_order(source, tmp_path, make_sample, same):
    """Datasets of equal settings become one, also when one of them was converted before."""
    other = DatasetDirectory.create_or_open(str(tmp_path / "other"), source.info)
    other.write_shard(0, [make_sample("c", seed=5)], [replace(FAILURE, id="g")])
    moved = transfer([other], tmp_path / "moved", samples_per_shard=9)
    merged = transfer([source, moved], tmp_path / "merged", container="arrow")
    for left, right in zip(samples(merged), samples(source) + samples(other), strict=True):
        same(left, right)
    assert merged.failures()["id"].to_pylist() == ["f", "g"]


def test_a_merge_of_different_settings_or_equal_keys_is_refused(source, tmp_path):
    """Both sides of a difference are shown; a key that occurs twice is named."""
    info = source.info.model_copy(update={"provenance": {"a": 2}})
    other = DatasetDirectory.create_or_open(str(tmp_path / "other"), info)
    with pytest.raises(ProvenanceError, match=r"provenance\.a: 1 in the dataset, 2 asked"):
        transfer([source, other], tmp_path / "out")
    with pytest.raises(UsageError, match="5 keys occur more than once, such as 'a0'"):
        transfer([source, source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_has_its_videos_and_no_other(source, tmp_path):
    """All samples and failures of a video go with it, and a part may be empty."""
    kept = transfer(
        [source], tmp_path / "out", part=Part(name="b", takes=lambda id: "/b" in id or id == "f")
    )
    assert [sample.key for sample in samples(kept)] == ["b0", "b1", "b2"]
    assert kept.failures().num_rows == 1
    none = transfer([source], tmp_path / "none", part=Part(name="none", takes=lambda _: False))
    assert samples(none) == []


def test_shares_are_a_partition_by_hash():
    """Every id is in exactly one part, shares are nearly met, and an id does not move with the seed kept."""
    parts = parts_by_share({"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    ids = [f"video {i}" for i in range(4000)]
    taken = np.array([[part.takes(id) for id in ids] for part in parts])
    assert (taken.sum(axis=0) == 1).all()
    np.testing.assert_allclose(taken.mean(axis=1), [0.8, 0.1, 0.1], atol=0.02)
    other = parts_by_share({"train": 0.8, "val": 0.1, "test": 0.1}, seed=1)
    assert [other[0].takes(id) for id in ids] != taken[0].tolist()


@pytest.mark.parametrize("shares", [{"a": 0.5}, {"a": 0.7, "b": 0.7}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_add_up_are_refused(shares):
    """Shares are positive and add up to 1."""
    with pytest.raises(UsageError, match="are not positive numbers that add up to 1"):
        parts_by_share(shares, seed=0)


def test_every_codec_can_be_a_target_or_is_lossy():
    """What the command offers is every codec that loses nothing."""
    from gazepack.cli.convert import convert

    (option,) = (parameter for parameter in convert.params if parameter.name == "codec")
    lossless = {name for name, codec in CODECS.items() if codec.lossless}
    assert set(option.type.choices) == lossless


class Kept:
    """Gives the patches of samples that were kept; what a decoder does elsewhere."""

    def __init__(self, samples):
        self.patches = {sample.key: sample.patches_NPP3 for sample in samples}

    def cut(self, sample, _info, *, out):
        out[...] = self.patches[sample.key]


@pytest.fixture
def lossless(tmp_path, make_sample):
    """A dataset of two samples in zstd."""
    info = DatasetInfo(codec=codec_from("zstd").settings(), patch_size=16, provenance={"a": 1})
    dataset = DatasetDirectory.create_or_open(str(tmp_path / "lossless"), info)
    dataset.write_shard(0, [make_sample("a"), make_sample("b", tokens=(), seed=2)], [FAILURE])
    return dataset


PLACES = {"name": "places"}


@pytest.mark.parametrize("container", ["webdataset", "arrow"])
def test_to_places_and_back_to_the_same_bytes(container, lossless, tmp_path):
    """Patches go, and come back from whoever cuts them; nothing else changes, in any container."""
    places = transfer([lossless], tmp_path / "places", container=container, codec=PLACES)
    assert [sample.patches_NPP3 for sample in samples(places)] == [None, None]
    again = transfer([places], tmp_path / "again", samples_per_shard=1)
    patches_from = Kept(samples(lossless))
    cutting = DatasetDirectory.open(again.uri, patches_from=patches_from)
    back = transfer(
        [cutting],
        tmp_path / "back",
        container="webdataset",
        codec=codec_from("zstd").settings(),
        samples_per_shard=2,
    )
    name = back.shard_name(0)
    assert back.storage.read_bytes(name) == lossless.storage.read_bytes(name)


def test_places_of_changed_pixels_are_refused(source, tmp_path):
    """A lossy codec's patches are not those that a video gives."""
    with pytest.raises(
        UsageError, match=r"'jpeg'.*not those of the videos; pack .* --store places"
    ):
        transfer([source], tmp_path / "places", codec=PLACES)


def test_patches_out_of_nowhere_are_refused(lossless, tmp_path):
    """Places become patches only where the videos are named; what is cut wrongly is refused."""
    places = transfer([lossless], tmp_path / "places", codec=PLACES)
    zstd = codec_from("zstd").settings()
    with pytest.raises(UsageError, match="stores places alone; name the videos with --source"):
        transfer([places], tmp_path / "back", codec=zstd)
    kept = Kept(samples(lossless))
    kept.patches["a"] = kept.patches["a"][::-1]
    cutting = DatasetDirectory.open(places.uri, patches_from=kept)
    with pytest.raises(DatasetError, match=r"sample a: video .* now gives other pixels"):
        transfer([cutting], tmp_path / "back", codec=zstd)


def test_a_sample_without_patches_is_not_written_with_a_codec_of_patches(lossless, tmp_path):
    """It says what is missing instead of writing half a sample."""
    places = transfer([lossless], tmp_path / "places", codec=PLACES)
    other = DatasetDirectory.create_or_open(str(tmp_path / "other"), lossless.info)
    with pytest.raises(UsageError, match="sample a comes without patches"):
        other.write_shard(0, samples(places))
    assert other.committed() == []
