"""Patches cut from the videos when they are read."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from gazepack import GazeDataset, SourcePatches
from gazepack.errors import DatasetError, SourceError, UsageError
from gazepack.formats import DatasetDirectory, DatasetInfo
from gazepack.jobs import Segment, compare_with_source, list_sources

WAYS = {
    "sampling": {"fps": 5},
    "fit": {"thumbnail": True, "thumbnail_every": 4},
    "shards": {"max_sample_tokens": 400},
    "selector": {"name": "greedy"},
}
"""Two views of different frames, and several samples a video: all that decides where a patch comes from."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_video):
    """Three videos, one of them longer than a sample may be."""
    folder = tmp_path_factory.mktemp("corpus") / "videos"
    for number, frames in enumerate((12, 50, 20)):
        make_video(folder / f"clip{number}.mp4", frames=frames, seed=number)
    return folder


@pytest.fixture(scope="module")
def stored(corpus, pack):
    """The same videos packed twice: with lossless patches, and with places alone in Arrow files."""
    patches, places = corpus.parent / "patches", corpus.parent / "places"
    assert not any(
        video.error for video in pack(corpus, patches, WAYS | {"codec": {"name": "zstd"}})
    )
    pack(corpus, places, WAYS | {"store": "places", "container": "arrow"})
    return str(patches), str(places)


def rows(uri):
    """Return the rows of the index."""
    return DatasetDirectory.open(uri).read_index().to_pylist()


def test_cut_patches_are_those_of_packing(stored, corpus):
    """Every sample, window and view: the very pixels that a lossless codec stored, and the same tokens."""
    patches = DatasetDirectory.open(stored[0])
    places = DatasetDirectory.open(stored[1], patches_from=SourcePatches(corpus))
    assert {row["window"] for row in rows(stored[1])} > {0}
    for row, other in zip(rows(stored[0]), rows(stored[1]), strict=True):
        expected, found = patches.read_sample(row), places.read_sample(other)
        np.testing.assert_array_equal(found.tokens_N6, expected.tokens_N6)
        np.testing.assert_array_equal(found.loss_N, expected.loss_N)
        np.testing.assert_array_equal(found.patches_NPP3, expected.patches_NPP3)
        assert found.meta == expected.meta
        assert set(found.tokens_N6[:, 0]) == {0, 1}


def test_places_take_a_fraction_of_the_bytes(stored):
    """No patch is there: less than a tenth of what patches take, and no member of that name."""
    patches, places = (sum(row["bytes"] for row in rows(uri)) for uri in stored)
    assert places < patches / 10
    names = {member["name"] for row in rows(stored[1]) for member in row["members"]}
    assert names == {"json", "places.zst"}


def test_a_loader_gives_the_same_batches(stored, corpus):
    """From patches and from places: equal in every tensor, in the same order."""
    options = {"batch_tokens": 300, "seed": 3, "max_tokens_per_frame": 20}
    left = GazeDataset(stored[0], **options)
    right = GazeDataset(stored[1], **options, patches_from=SourcePatches(str(corpus)))
    pairs = list(zip(left, right, strict=True))
    assert len(pairs) > 1
    for one, other in pairs:
        for name in ("patches", "view", "frame", "scale", "row", "col", "rank", "cu_seqlens"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=0)
        assert [meta["key"] for meta in other.meta] == [meta["key"] for meta in one.meta]


def test_a_loader_needs_to_know_where_the_videos_are(stored):
    """Told at construction, with the remedy."""
    with pytest.raises(
        UsageError, match=r"stores places alone; give patches_from=gazepack\.Source"
    ):
        GazeDataset(stored[1], batch_size=1)


def test_it_may_be_pickled(stored, corpus):
    """As a loader's workers get it."""
    videos = pickle.loads(pickle.dumps(SourcePatches([corpus / "clip0.mp4"])))  # noqa: S301
    row = rows(stored[1])[0]
    dataset = DatasetDirectory.open(stored[1], patches_from=videos)
    assert dataset.read_sample(row).patches_NPP3 is not None


def test_without_the_videos_a_sample_has_places_alone(stored):
    """Tokens, losses and metadata are read as ever."""
    sample = DatasetDirectory.open(stored[1]).read_sample(rows(stored[1])[0])
    assert sample.patches_NPP3 is None
    assert (sample.num_tokens, sample.patch_size) == (len(sample.tokens_N6), 16)


def test_another_video_is_refused(stored, corpus, tmp_path, make_video):
    """Of the same name, length and size, but other pixels: refused by the checksum, and skipped if asked."""
    make_video(tmp_path / "clip0.mp4", frames=12, seed=9)
    for number in (1, 2):
        (tmp_path / f"clip{number}.mp4").symlink_to(corpus / f"clip{number}.mp4")
    videos = SourcePatches(tmp_path)
    row = rows(stored[1])[0]
    with pytest.raises(
        DatasetError, match=r"sample clip0-\w+: video 'clip0\.mp4' now gives other pixels"
    ):
        DatasetDirectory.open(stored[1], patches_from=videos).read_sample(row)
    loader = GazeDataset(stored[1], batch_size=8, on_error="skip", patches_from=videos)
    with pytest.warns(UserWarning, match="skipped a damaged sample"):
        skipped = [line for batch in loader for line in batch.skipped]
    assert len(skipped) == 1


def test_a_video_that_is_missing_or_shorter_is_refused(stored, tmp_path, make_video):
    """One line with the sample and what to do."""
    make_video(tmp_path / "clip1.mp4", frames=12, seed=1)
    first, *_, last = (row for row in rows(stored[1]) if row["id"] in ("clip0.mp4", "clip1.mp4"))
    dataset = DatasetDirectory.open(stored[1], patches_from=SourcePatches(tmp_path))
    with pytest.raises(DatasetError, match=r"no source has the id 'clip0\.mp4'; name the folder"):
        dataset.read_sample(first)
    with pytest.raises(
        DatasetError, match=r"sample clip1.*: segment 0 to inf s is empty: the video has 1\.20 s"
    ):
        dataset.read_sample(last)


def test_sources_must_be_named():
    """None, and one that is not there."""
    with pytest.raises(UsageError, match="no source is named"):
        SourcePatches([])
    with pytest.raises(SourceError, match="'nowhere' does not exist"):
        SourcePatches("nowhere")


def test_views_of_different_frames_are_refused(stored, corpus):
    """What no writer of ours makes, but a file may say."""
    dataset = DatasetDirectory.open(stored[1])
    sample = dataset.read_sample(rows(stored[1])[0])
    views = [dict(view) for view in sample.meta["views"]]
    views[1]["times"] = [time + 1 for time in views[1]["times"]]
    strange = replace(sample, meta=sample.meta | {"views": views})
    out = np.empty((sample.num_tokens, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(DatasetError, match="views are of different frames"):
        SourcePatches(corpus).cut(strange, dataset.info, out=out)


def test_a_dataset_that_does_not_say_how_it_was_sampled(stored, corpus):
    """Provenance is free JSON: what is not there is damage, in one line."""
    info = DatasetInfo(codec={"name": "places"}, patch_size=16, provenance={"sampling": 3})
    sample = DatasetDirectory.open(stored[1]).read_sample(rows(stored[1])[0])
    out = np.empty((sample.num_tokens, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(DatasetError, match="does not say how frames were sampled"):
        SourcePatches(corpus).cut(sample, info, out=out)


def test_verify_compares_places_with_their_videos(stored, corpus, tmp_path, make_video):
    """Patches are cut and painted again: stored errors are true of these videos, and of no other."""
    index = rows(stored[1])
    segments = {r["id"]: Segment.from_row(r) for r in list_sources([str(corpus)]).to_pylist()}
    dataset = DatasetDirectory.open(stored[1], patches_from=SourcePatches(corpus))
    assert list(compare_with_source(dataset, index, segments)) == []
    make_video(tmp_path / "clip0.mp4", frames=12, seed=9)
    other = DatasetDirectory.open(stored[1], patches_from=SourcePatches(tmp_path))
    problems = [str(problem) for problem in compare_with_source(other, index, segments)]
    assert "other pixels" in problems[0]
    assert len(problems) == len(index)
