"""`gazepack bench loader`: predictions against what the loader then does."""

import json
from pathlib import Path

import click
import pytest

from gazepack.cli.bench import bench
from gazepack.errors import DatasetError
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
