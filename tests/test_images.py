import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def test_the_picture_of_the_readme_is_what_the_program_draws(tmp_path: Path) -> None:
    """`docs/images/draw.py` draws `docs/images/gaze.png` again, but for what another encoder changes."""
    spec = importlib.util.spec_from_file_location("draw", IMAGES / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    assert draw.main(tmp_path / "gaze.png") == 0
    with Image.open(tmp_path / "gaze.png") as now, Image.open(IMAGES / "gaze.png") as then:
        assert now.size == then.size
        apart = np.asarray(now).astype(int) - np.asarray(then)
    assert abs(apart).mean() < 6
    assert (IMAGES / "gaze.png").stat().st_size < 400_000
