"""`benchmarks/gpu.py`, the one command for a machine with a GPU, runs from end to end without one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gazepack.autogaze import load_checkpoint
from gazepack.video import write_video
from gazepack.video.scenes import objects

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
SMALL = ("--device", "cpu", "--clips", "1", "--batches", "1", "--rounds", "1", "--matrix", "64")


def test_everything_is_measured(tmp_path: Path) -> None:
    """Ids are the same in groups, and every rate is there."""
    film = tmp_path / "film.mp4"
    write_video(film, objects(224, 224, 16), fps=25)
    command = [sys.executable, str(SCRIPT), *SMALL, "--ratio", "0.01", "--videos", str(film)]
    command += ["--ratios", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["float32_parity"].values()) == {"1 of 1 clips have the same ids"}
    half = found["bfloat16"]["0.01"]
    assert 0 < half["shared_tokens"] <= 1
    assert half["bfloat16_psnr"] == pytest.approx(half["float32_psnr"], abs=1)
    assert len(found["clips_per_second"]) == 4
    assert min(found["clips_per_second"].values()) > 0
    roofline = found["roofline"]
    for name in ("float32", "bfloat16"):
        assert roofline[f"{name}_share_of_matrix_rate"] > 0
        assert roofline[f"{name}_share_of_memory_rate"] > 0
    # one feed of each frame's cells reads 198, 396, ... tokens of 2 x 4 x 192 values
    tokens = sum(198 * number for number in range(1, 17))
    assert roofline["float32_megabytes_a_clip"] == pytest.approx(tokens * 1536 * 4 / 1e6, abs=0.1)
    assert found["pack"]["frames_per_second"]["pack: everything together"] > 0


@pytest.mark.usefixtures("cuda")
def test_every_part_works_on_a_pretended_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Groups are recorded and replayed, and everything but packing, another process's, is told."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    film, tiny = tmp_path / "film.mp4", Path(__file__).parent / "data" / "autogaze-tiny"
    write_video(film, objects(64, 64, 1), fps=25)
    monkeypatch.setattr(module, "CLIP_FRAMES", 1)
    monkeypatch.setattr(module, "fresh_network", lambda *_, **__: load_checkpoint(tiny).network)
    options = [str(SCRIPT), "--device", "cuda", *SMALL[2:], "--ratio", "0.004"]
    options += ["--ratios", "0.004", "--parts", "parity", "bfloat16", "rates", "roofline"]
    monkeypatch.setattr(sys, "argv", [*options, "--videos", str(film)])
    module.main()
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "pretended"
    assert set(found["float32_parity"].values()) == {"1 of 1 clips have the same ids"}
    assert 0 < found["bfloat16"]["0.004"]["shared_tokens"] <= 1
    assert len(found["clips_per_second"]) == 4
    assert found["roofline"]["memory_bytes_per_second"] > 0
