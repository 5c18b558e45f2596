"""The seconds of a unit, stage by stage."""

import re
import time
from pathlib import Path

import pytest

from gazepack.formats import DatasetDirectory
from gazepack.jobs import Nursery, PackSettings, Resources, Tally, open_run, run_serial
from gazepack.jobs.metrics import STAGES, StageClock
from gazepack.selectors import build


def test_stages_add_up_to_the_time_of_the_run(
    videos: Path, tmp_path: Path, nursery: Nursery
) -> None:
    """Every stage takes some time, together no more than the run; the bytes are those of the samples."""
    settings = PackSettings.parse({"fit": {"max_tiles": 2}, "selector": {"name": "greedy"}})
    selector = build(settings.selector, device="cpu")
    run = open_run([str(videos)], str(tmp_path / "out"), settings=settings, selector=selector)
    tally, began = Tally(), time.perf_counter()
    run_serial(run, resources=Resources(), report=lambda _: None, meter=tally, nursery=nursery)
    whole = time.perf_counter() - began
    assert all(tally.seconds[stage] > 0 for stage in STAGES)
    assert sum(tally.seconds.values()) <= whole
    index = DatasetDirectory.open(str(tmp_path / "out")).read_index()
    assert tally.bytes == sum(index["size"].to_pylist()) > 0


def test_the_line_names_the_largest_stage() -> None:
    """Shares of all stages, and what would help against the bottleneck."""
    tally = Tally()
    assert tally.line() == ""
    tally.spent("choose", 6.0)
    tally.spent("decode", 3.0)
    tally.spent("choose", 1.0)
    assert tally.line() == (
        "10.0 worker seconds: decode 30%, choose 70%, encode 0%, write 0%; "
        "the bottleneck is choose, more or faster workers would help"
    )


def test_a_moment_belongs_to_one_stage() -> None:
    """Nothing is counted before the first stage nor after the last."""
    tally = Tally()
    clock = StageClock(tally)
    clock.to(None)
    assert tally.line() == ""
    clock.to("write")
    clock.to(None)
    once = tally.seconds["write"]
    clock.to(None)
    assert tally.seconds["write"] == once > 0


def test_pack_ends_with_the_line(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`gazepack pack` says on stderr where the time went, and nothing when there was nothing to do."""
    from gazepack.cli.main import run

    arguments = ["pack", str(videos / "clip0.mp4"), "--out", str(tmp_path / "out")]
    assert run(arguments) == 0
    line = r"worker seconds: decode \d+%, choose \d+%, encode \d+%, write \d+%; the bottleneck is"
    assert re.search(line, capsys.readouterr().err)
    assert run(arguments) == 0
    assert "worker seconds" not in capsys.readouterr().err
