"""A packed dataset whose names are hostile, and a real browser."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory
from gazepack.video import write_video
from gazepack.video.scenes import cuts, objects
from gazepack.viewing import Scene, find_row

NUM_FRAMES = 20
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&amp;"
"""An id that would do harm if it were not escaped."""
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> DatasetDirectory:
    """Two scenes, the first of a hostile id, and a video that is missing and hostile too."""
    folder = tmp_path_factory.mktemp("viewing")
    for name, scene in (("one", objects), ("two", cuts)):
        write_video(folder / f"{name}.mp4", scene(240, 136, NUM_FRAMES, 0), fps=10)
    rows = [
        {"path": "one.mp4", "id": HOSTILE},
        {"path": "two.mp4", "id": "two"},
        {"path": "<b>gone</b>.mp4", "id": "<b>gone</b>"},
    ]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    packing = ["pack", str(manifest), "--out", str(folder / "packed"), "--min-psnr", "34"]
    assert run([*packing, "--codec", "zstd", "--attempts", "1"]) == 3
    return DatasetDirectory.open(str(folder / "packed"))


@pytest.fixture(scope="session")
def scene(packed: DatasetDirectory) -> Scene:
    """The sample of the hostile id."""
    return Scene.of(packed, find_row(packed, HOSTILE), view_name="tiles")


@pytest.fixture(scope="session")
def browser(chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's chromium, driven by its chromedriver."""
    program, driver = chromium
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    found.set_page_load_timeout(60)
    yield found
    found.quit()
