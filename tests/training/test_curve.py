"""`benchmarks/training_curve.py` compares checkpoints video by video."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gazepack.autogaze import CanvasNetwork, fresh_canvas_network
from gazepack.autogaze.weights import save_checkpoint

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_curve.py"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What the script returns."""
    spec = importlib.util.spec_from_file_location("training_curve", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "training_curve", script)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "BOUNDS", (18.0,))
    monkeypatch.setattr(script, "COLOURS", ("black",))
    return int(script.main())


def test_checkpoints_stand_beside_the_first_and_greedy(
    network: CanvasNetwork, folder_of: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first differs from itself by nothing, greedy needs the fewest tokens, and a figure is drawn."""
    other = fresh_canvas_network(network.config, seed=3)
    for name, x in (("one", network), ("same", network), ("other", other)):
        save_checkpoint(x, tmp_path / name)
    models = [str(tmp_path / name) for name in ("one", "same", "other")]
    out = tmp_path / "curve.md"
    named = ["--names", "one,same,other", "--windows", "1", "--out", str(out)]
    assert run([str(folder_of), *models, *named], monkeypatch) == 0
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in out.read_text().splitlines()
        if line.startswith("| ")
    }
    assert [cell.split()[0] for cell in rows["same"]] == ["+0.0", "+0.00"]
    assert float(rows["greedy"][0].split()[0]) < 0
    assert rows["other"] != rows["same"]
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 1


def test_a_folder_without_videos_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, with a remedy."""
    assert run([str(tmp_path / "empty"), "one"], monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("name a folder of videos")


def test_every_model_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two names for one model are refused."""
    with pytest.raises(SystemExit):
        run([str(tmp_path), "one", "--names", "one,two"], monkeypatch)
    assert capsys.readouterr().err.endswith("2 names for 1 models\n")
