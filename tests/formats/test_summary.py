"""A dataset in numbers."""

from dataclasses import replace

from gazepack.formats import Failure, outstanding, summarise

FAILURE = Failure(id="f", uri="u", stage="open", error="VideoError", message="m", attempts=1)


def test_the_numbers_add_up(dataset, make_sample):
    """Every number is the one that counting the samples gives."""
    dataset.write_shard(0, [make_sample("a"), make_sample("b", tokens=(2,))], [FAILURE])
    dataset.write_shard(2, [make_sample("c", tokens=(1, 1))])
    samples = [*dataset.iter_samples(0), *dataset.iter_samples(2)]
    tokens = sum(sample.num_tokens for sample in samples)
    frames = sum(len(sample.meta["views"][0]["times"]) for sample in samples)
    assert summarise(dataset) == {
        "format_version": 1,
        "samples": 3,
        "videos": 3,
        "failed": 1,
        "frames": frames,
        "tokens": tokens,
        "dense_tokens": frames * 2 * 196,
        "reduction": frames * 2 * 196 / tokens,
        "store": "patches",
        "bytes": sum(dataset.read_index()["size"].to_pylist()),
        "source_bytes": 3000,
        "shards": 2,
        "selector": "greedy",
        "model_sha256": None,
        "min_psnr": 30.0,
    }


def test_an_empty_dataset_has_numbers(dataset):
    """Without samples nothing is divided by zero."""
    summary = summarise(dataset)
    assert (summary["samples"], summary["reduction"], summary["min_psnr"]) == (0, None, None)


def test_a_video_of_parts_is_one_video(dataset, make_sample):
    """Parts that are packed and parts that failed are one video; a part is outstanding until it is packed."""

    def part(window: int):
        sample = make_sample(f"long_w{window:04d}" if window else "long")
        return replace(sample, meta={**sample.meta, "id": "long", "window": window})

    failed = [replace(FAILURE, id="long", window=window) for window in (40, 80)]
    dataset.write_shard(0, [part(0), part(120)], failed)
    found = summarise(dataset)
    assert (found["videos"], found["samples"], found["failed"]) == (1, 2, 1)
    assert found["source_bytes"] == 1000
    assert outstanding(dataset)["window"].to_pylist() == [40, 80]
    dataset.write_shard(1, [part(40)], failed[1:])
    assert [(row["window"], row["shard"]) for row in outstanding(dataset).to_pylist()] == [(80, 1)]
    dataset.write_shard(2, [part(80)])
    assert summarise(dataset)["failed"] == 0
