from pathlib import Path

import pytest

from gazepack.formats import DatasetDirectory, DatasetInfo
from gazepack.jobs import RunLog, Tally, write_log
from gazepack.jobs.runlog import added_up, read_logs


@pytest.fixture
def directory(tmp_path: Path) -> DatasetDirectory:
    """An empty dataset."""
    info = DatasetInfo(codec={"name": "zstd", "level": 3}, patch_size=16)
    return DatasetDirectory.create_or_open(str(tmp_path / "packed"), info)


def log(seconds: float) -> RunLog:
    """A start whose stages took so long each."""
    tally = Tally()
    for stage in tally.seconds:
        tally.spent(stage, seconds)
    tally.wrote(10)
    return RunLog.of(tally, wall_seconds=2 * seconds)


def test_logs_of_all_starts_are_kept_and_added_up(directory: DatasetDirectory) -> None:
    """Each start leaves a file of its own; together they are sums."""
    for number in (1.0, 2.0):
        write_log(directory, log(number))
    found = read_logs(directory)
    assert found == [log(1.0), log(2.0)]
    assert added_up(found) == RunLog(
        seconds=dict.fromkeys(found[0].seconds, 3.0), wall_seconds=6.0, bytes=20
    )


def test_a_start_that_did_nothing_leaves_nothing(directory: DatasetDirectory) -> None:
    """A run with nothing to pack changes no file."""
    write_log(directory, RunLog.of(Tally(), wall_seconds=1.0))
    assert read_logs(directory) == []
    assert directory.storage.list("run") == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"seconds": {}}', b'{"seconds": null}', b"\xff"])
def test_what_is_no_log_is_passed_over(directory: DatasetDirectory, content: bytes) -> None:
    """A damaged paper of the writer spoils no report."""
    write_log(directory, log(1.0))
    directory.write_run_file("work-0000000000000000000.json", content)
    assert read_logs(directory) == [log(1.0)]
