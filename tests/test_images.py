import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

IMAGES = Path(__file__).parents[1] / "docs" / "images"


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """The scripts of `docs/images` are found, as each of them finds the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(IMAGES)
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that both pictures show."""
    draw: Any = importlib.import_module("draw")
    packed: Path = draw.packed_scene(tmp_path_factory.mktemp("scene"))
    return packed


def difference(one: Path, other: Path) -> float:
    """Return how far two pictures of one size are apart, in 8-bit steps."""
    with Image.open(one) as now, Image.open(other) as then:
        assert now.size == then.size
        apart = np.asarray(now).astype(int) - np.asarray(then)
    return float(abs(apart).mean())


def test_the_picture_of_the_readme_is_what_the_program_draws(scene: Path, tmp_path: Path) -> None:
    """`docs/images/draw.py` draws `docs/images/gaze.png` again, but for what another encoder changes."""
    importlib.import_module("draw").draw(scene, tmp_path / "gaze.png")
    apart = difference(tmp_path / "gaze.png", IMAGES / "gaze.png")
    assert apart < 0.5  # 1.0 if the network chooses in place of greedy
    assert (IMAGES / "gaze.png").stat().st_size < 400_000


@pytest.mark.usefixtures("chromium")
def test_the_photograph_of_the_tutorial_is_of_the_page_as_it_is(
    scene: Path, tmp_path: Path
) -> None:
    """`docs/images/shoot.py` takes `docs/images/page.webp` again, but for fonts and the encoder."""
    importlib.import_module("shoot").shoot(scene, tmp_path / "page.webp")
    apart = difference(tmp_path / "page.webp", IMAGES / "page.webp")
    assert apart < 2  # 2.6 for the frame before


def test_a_command_that_fails_ends_a_script(tmp_path: Path) -> None:
    """No picture is left that shows something else."""
    draw: Any = importlib.import_module("draw")
    with pytest.raises(SystemExit, match="2"):
        draw.draw(tmp_path, tmp_path / "gaze.png")
    assert not (tmp_path / "gaze.png").exists()
