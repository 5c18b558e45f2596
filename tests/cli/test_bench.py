"""`gazepack bench`: what was timed, and predictions against what the loader then does."""

import json
from pathlib import Path

import click
import pytest

from gazepack.cli.bench import bench
from gazepack.errors import DatasetError, SourceError
from gazepack.formats import DatasetDirectory
from gazepack.loader import GazeDataset

Captured = pytest.CaptureFixture[str]


def run(*arguments: str) -> None:
    """Run the command line as the program does."""
    bench.main(list(arguments), prog_name="gazepack bench", standalone_mode=False)


def test_the_forecast_is_what_happens(dataset: Path, capsys: Captured) -> None:
    """Steps, samples and tokens are those of an epoch that is read."""
    run("loader", str(dataset), "--batch-size", "1", "--ranks", "2", "--workers", "3", "--json")
    told = json.loads(capsys.readouterr().out)
    batches = [
        batch
        for rank in (0, 1)
        for batch in GazeDataset(dataset, batch_size=1, rank=rank, world_size=2)
    ]
    assert (told["ranks"], told["workers"], told["nodes"]) == (2, 3, 1)
    assert told["steps"] * 2 == len(batches)
    assert told["samples"] == sum(batch.num_samples for batch in batches)
    assert told["tokens"] == sum(batch.num_tokens for batch in batches)
    assert told["empty_batches"] == sum(batch.num_samples == 0 for batch in batches)
    assert told["requests"] == told["samples"]


def test_the_table_has_the_same_numbers(dataset: Path, capsys: Captured) -> None:
    """People read what `--json` says."""
    run("loader", str(dataset), "--max-tokens", "50", "--cache-size", "1GB")
    out = capsys.readouterr().out
    run("loader", str(dataset), "--max-tokens", "50", "--cache-size", "1GB", "--json")
    told = json.loads(capsys.readouterr().out)
    assert f"{told['padded_tokens']:,} padded tokens" in out
    assert f"{told['cache_hits']:.1%} hits, 100.0% in the next epoch" in out


def test_what_cannot_be_is_refused(dataset: Path, tmp_path: Path) -> None:
    """Two limits, no dataset, no rank."""
    with pytest.raises(ValueError, match="give one of the two"):
        run("loader", str(dataset), "--batch-size", "1", "--batch-tokens", "1")
    with pytest.raises(DatasetError, match="is not a gazepack dataset"):
        run("loader", str(tmp_path))
    with pytest.raises(click.BadParameter, match="0 is not in the range"):
        run("loader", str(dataset), "--ranks", "0")


@pytest.mark.parametrize("selector", ["greedy", "autogaze"])
def test_every_stage_is_timed(folder: Path, capsys: Captured, selector: str) -> None:
    """All stages have a rate; the share reached is of the slower of decode and choose."""
    videos = [str(folder / f"{n}.mp4") for n in range(3)]
    run("pack", *videos, "--selector", selector, "--decoders", "2", "--json")
    told = json.loads(capsys.readouterr().out)
    rates = told["frames_per_second"]
    names = [name.partition(":")[0] for name in rates]
    gazes = ["gaze", "gaze"] if selector == "autogaze" else []
    assert names == ["read", "fit", "decode", *gazes, "choose", "cut", "encode", "write", "pack"]
    assert all(rate > 0 for rate in rates.values())
    slower = min(
        ("decode", "choose"),
        key=lambda name: next(r for k, r in rates.items() if k.startswith(name)),
    )
    limit = next(rate for name, rate in rates.items() if name.startswith(slower))
    assert told["bottleneck"] == slower
    packed = rates["pack: everything together"]
    assert told["share_of_speed_of_light"] == pytest.approx(packed / limit, rel=1e-2)
    assert sum(told["worker_seconds"].values()) > 0
    assert told["tiles_per_frame"] == 1
    assert told["tokens_per_frame"] > 0


def test_the_stages_are_those_of_packing(folder: Path, dataset: Path, capsys: Captured) -> None:
    """What is chosen for the clock is what `pack` chooses."""
    run("pack", *(str(folder / f"{n}.mp4") for n in range(3)), "--json")
    told = json.loads(capsys.readouterr().out)
    index = DatasetDirectory.open(str(dataset)).read_index()
    frames, tokens = (sum(index[name].to_pylist()) for name in ("frames", "tokens"))
    assert told["tokens_per_frame"] == pytest.approx(tokens / frames, abs=0.01)


def test_nothing_to_time(folder: Path) -> None:
    """Videos that cannot be decoded are one line."""
    with pytest.raises(SourceError, match="nothing could be decoded"):
        run("pack", str(folder / "empty.mp4"))


def test_people_read_a_table(folder: Path, capsys: Captured) -> None:
    """Each stage is a line, and the last lines name the bottleneck and the decoders needed."""
    run("pack", str(folder / "1.mp4"))
    *stages, tiles, share, spent, needed = capsys.readouterr().out.splitlines()
    assert len(stages) == 10
    assert all(" frames/s  " in stage for stage in stages)
    assert tiles.startswith("1 tiles and ")
    assert "of the slower of decode and choose, which is " in share
    assert " worker seconds: decode " in spent
    assert needed.endswith("decoders would keep one such worker busy choosing")
