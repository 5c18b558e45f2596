import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


@pytest.fixture
def demo() -> ModuleType:
    """The program, imported from its file."""
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_packs_four_videos_and_shows_one(
    demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Videos, a sound dataset and a picture are left and named; a second run changes nothing."""
    assert demo.main(tmp_path / "demo") == 0
    said = capfd.readouterr().out
    assert "4 packed, 0 failed" in said
    assert f"a picture of its gaze in {tmp_path / 'demo' / 'gaze.png'}" in said
    packed = tmp_path / "demo" / "packed"
    index = DatasetDirectory.open(str(packed)).read_index()
    assert sorted(index["id"].to_pylist()) == ["cuts.mp4", "objects.mp4", "pan.mp4", "screen.mp4"]
    assert index["frames"].to_pylist() == [demo.NUM_FRAMES] * 4
    assert min(index["min_psnr"].to_pylist()) >= demo.MIN_PSNR - 1e-3
    with Image.open(tmp_path / "demo" / "gaze.png") as picture:
        assert 640 <= picture.width <= 2400
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    assert demo.main(tmp_path / "demo") == 0
    assert before == {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    assert run(["verify", str(packed), "--source", str(tmp_path / "demo" / "videos")]) == 0


def test_the_demo_ends_with_the_code_of_the_command_that_failed(
    demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where `packed` is not a dataset, the demo stops with the code and the words of `pack`."""
    demo.NUM_FRAMES = 1
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "mine.txt").write_text("not a dataset")
    assert demo.main(tmp_path) == 2
    assert "holds no dataset" in capfd.readouterr().err
    assert not (tmp_path / "gaze.png").exists()
