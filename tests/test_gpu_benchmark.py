"""`benchmarks/gpu.py`, the one command for a machine with a GPU, runs from end to end on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gazepack.video import write_video
from gazepack.video.scenes import objects

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
SMALL = ("--device", "cpu", "--clips", "1", "--batches", "1", "--rounds", "1", "--matrix", "64")


def test_everything_is_measured(tmp_path: Path) -> None:
    """Ids are the same in groups, and every rate is there."""
    film = tmp_path / "film.mp4"
    write_video(film, objects(224, 224, 16), fps=25)
    command = [sys.executable, str(SCRIPT), *SMALL, "--ratio", "0.01", "--videos", str(film)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["float32_parity"].values()) == {"1 of 1 clips have the same ids"}
    assert 0 < found["bfloat16"]["shared_tokens"] <= 1
    assert found["bfloat16"]["bfloat16_psnr"] == pytest.approx(
        found["bfloat16"]["float32_psnr"], abs=1
    )
    assert len(found["clips_per_second"]) == 4
    assert min(found["clips_per_second"].values()) > 0
    assert 0 < found["roofline"]["best_of_float32_matrix_rate"] < 2
    assert found["pack"]["frames_per_second"]["pack: everything together"] > 0
