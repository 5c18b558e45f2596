"""Samples in a tar."""

import io
import tarfile

import numpy as np
import pytest
import webdataset

from gazepack.errors import DatasetError
from gazepack.formats import Sample, codec_from
from gazepack.formats.webdataset import (
    BLOCK,
    END,
    WebDatasetContainer,
    sample_to_bytes,
    tar_members,
)

CODEC = codec_from("jpeg")


def test_headers_tell_nothing_but_name_and_size(make_sample):
    """Mode 0644; owner, time and names of people are empty."""
    stored, members = sample_to_bytes(make_sample("k"), CODEC, offset=0)
    with tarfile.open(fileobj=io.BytesIO(stored + END)) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == [f"k.{member.name}" for member in members]
    for info in infos:
        assert (info.mode, info.uid, info.gid, info.mtime) == (0o644, 0, 0, 0)
        assert (info.uname, info.gname, info.pax_headers) == ("", "", {})
    assert len(stored) % BLOCK == 0


@pytest.mark.parametrize("key", ["k", "x" * 200])
def test_the_listed_places_are_the_tars(key, make_sample, same):
    """What the index lists is what a tar reader finds, also where a long name needs a pax header."""
    sample = make_sample(key)
    stored, members = sample_to_bytes(sample, codec_from("zstd"), offset=5120)
    listed = [(f"{key}.{member.name}", member.offset, member.size) for member in members]
    assert tar_members(stored, offset=5120) == listed
    row = {
        "key": key,
        "offset": 5120,
        "members": [{"name": m.name, "offset": m.offset, "size": m.size} for m in members],
    }
    again = WebDatasetContainer().read(
        stored, row=row, codec=codec_from("zstd"), patch_size=16, place="p", kind=Sample
    )
    same(again, sample)


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, 10**12), (10**12, 1), (600, -1)])
def test_a_member_outside_its_sample_is_refused(offset, size, make_sample):
    """An index cannot make a reader look elsewhere."""
    stored, _ = sample_to_bytes(make_sample("k"), CODEC, offset=0)
    row = {"key": "k", "offset": 0, "members": [{"name": "json", "offset": offset, "size": size}]}
    with pytest.raises(DatasetError, match="p: sample k: json: the index places it at bytes"):
        WebDatasetContainer().read(
            stored, row=row, codec=CODEC, patch_size=16, place="p", kind=Sample
        )


def test_members_that_are_no_files_are_refused():
    """A link in a tar is never followed."""
    link = tarfile.TarInfo("k.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(DatasetError, match=r"'k\.json' is not a regular file"):
        tar_members(link.tobuf(), offset=0)


def test_damaged_headers_are_refused(make_sample):
    """A flipped byte in the first header is found by the tar's own checksum."""
    stored = bytearray(sample_to_bytes(make_sample("k"), CODEC, offset=0)[0])
    stored[0] ^= 1
    with pytest.raises(DatasetError, match="the tar headers are damaged"):
        tar_members(bytes(stored), offset=0)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # webdataset leaves its files to the collector
def test_plain_webdataset_reads_a_shard(dataset, make_sample):
    """The `webdataset` package reads every field without gazepack, also of long keys."""
    keys = ["a", "b", "x" * 150]
    dataset.write_shard(0, [make_sample(key, seed=i) for i, key in enumerate(keys)])
    path = f"{dataset.uri}/{dataset.shard_name(0)}"
    records = list(webdataset.WebDataset(path, shardshuffle=False).decode())
    assert [record["__key__"] for record in records] == keys
    for record, sample in zip(records, dataset.iter_samples(0), strict=True):
        assert record["json"] == sample.meta
        assert record["txt"] == sample.fields["txt"].decode()
        np.testing.assert_array_equal(record["tokens.npy"], sample.tokens_N6)
        np.testing.assert_array_equal(record["loss.npy"], sample.loss_N)
        assert isinstance(record["patches.zst"], bytes)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # webdataset leaves its files to the collector
def test_plain_webdataset_reads_an_empty_shard(dataset):
    """A shard without samples is a tar without members."""
    dataset.write_shard(0, [])
    path = f"{dataset.uri}/{dataset.shard_name(0)}"
    assert list(webdataset.WebDataset(path, shardshuffle=False, empty_check=False)) == []
