"""The cluster that is asked for, before there is one."""

from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.errors import UsageError
from gazepack.jobs.executors.cluster import ClusterSettings


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:none"])
def test_no_cluster_at_the_address_is_one_line(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    """A wrong --ray-address ends with exit code 2 and a remedy, not with a traceback."""
    arguments = ["pack", str(videos / "clip0.mp4"), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--ray-address", address]) == 2
    said = capsys.readouterr().err
    assert f"no Ray cluster answers at '{address}'" in said
    assert "check --ray-address, or leave it out to use this machine alone" in said
    assert said.count("\n") == 1


def test_an_impossible_range_of_workers_is_refused() -> None:
    """At least one worker, and not more at least than at most."""
    with pytest.raises(UsageError, match=r"workers 3:2 is not a range"):
        ClusterSettings(min_workers=3, max_workers=2)
