"""The pages in a real browser: what is shown, what can be clicked, and that nothing is fetched or run."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from gazepack.formats import DatasetDirectory
from gazepack.geometry import CELLS_PER_PATCH
from gazepack.viewing import Scene, find_segment, write_page, write_report
from gazepack.viewing.drawing import SCALE_COLOURS, Shot, patch_box

PATIENCE_SECONDS = 60
"""For what a browser does at once unless the machine is busy."""


def show(browser: Any, page: Path, *, width: int = 1280, dark: bool = False) -> None:
    """Open a page in a window of this width."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())


def text(browser: Any, name: str) -> str:
    """What an element says."""
    return str(browser.find_element(By.ID, name).text)


def press(browser: Any, *keys: str) -> None:
    """Press keys on the page."""
    browser.find_element(By.TAG_NAME, "body").send_keys(*keys)


@pytest.fixture(scope="session")
def page(packed: DatasetDirectory, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the first sample, with its video."""
    out = tmp_path_factory.mktemp("page") / "view.html"
    segment = find_segment(packed, scene.sample.meta["id"], ())
    assert write_page(scene, out, segment=segment, frames=96) == scene.num_frames
    return out


@pytest.fixture(scope="session")
def shots(packed: DatasetDirectory, scene: Scene) -> list[Shot]:
    """Its frames."""
    return list(scene.shots(find_segment(packed, scene.sample.meta["id"], ())))


def test_the_slider_and_the_keys_move_through_the_frames(
    browser: Any, page: Path, scene: Scene
) -> None:
    """Each frame says its number, time, tokens and errors as stored; the ends are the ends."""
    show(browser, page)
    meta, last = scene.meta, scene.num_frames - 1
    for keys, number in (
        ([], 0),
        ([Keys.ARROW_RIGHT], 1),
        ([Keys.ARROW_RIGHT], 2),
        ([Keys.ARROW_LEFT], 1),
        ([Keys.END], last),
        ([Keys.ARROW_RIGHT], last),
        ([Keys.HOME], 0),
    ):
        press(browser, *keys)
        assert text(browser, "frame") == (
            f"frame {number + 1} of {last + 1} · {meta['times'][number]:.2f} s · "
            f"{meta['tokens'][number]} tokens · PSNR {meta['psnr'][number]:.1f} dB · "
            f"mean error {meta['l1'][number]:.2f} of 255"
        )
    slider = browser.find_element(By.ID, "slider")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(browser, "frame").startswith("frame 4 of ")


def test_a_click_on_a_patch_says_its_place_rank_and_loss(
    browser: Any, page: Path, shots: list[Shot]
) -> None:
    """What is shown of a clicked patch is what is stored of the finest token under the pointer."""
    show(browser, page)
    shot = shots[0]
    token = int(np.argmax(shot.scale_K))
    scale, side = int(shot.scale_K[token]), CELLS_PER_PATCH[shot.scale_K[token]] * 8
    row, col = int(shot.row_K[token]), int(shot.col_K[token])
    canvas = browser.find_element(By.ID, "chosen")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    zoom = canvas.size["width"] / shot.grid.width
    at = [round((place + 0.5) * side * zoom) for place in (col, row)]
    half = (canvas.size["width"] // 2, canvas.size["height"] // 2)
    ActionChains(browser).move_to_element_with_offset(
        canvas, at[0] - half[0], at[1] - half[1]
    ).click().perform()
    found = text(browser, "token").splitlines()
    said = dict(zip(found[::2], found[1::2], strict=True))
    assert said == {
        "token": f"{token + 1} of {len(shot.scale_K)} in this frame, as chosen",
        "scale": f"{scale}, a square of {side} px",
        "place": f"row {row}, column {col}",
        "rank": f"{shot.rank_K[token]} in its tile",
        "loss before": said["loss before"],
    }
    assert float(said["loss before"]) == pytest.approx(float(shot.loss_K[token]), abs=1e-3)
    press(browser, "n")
    assert text(browser, "token").splitlines()[1].startswith(f"{token + 2} of ")
    press(browser, Keys.ESCAPE)
    assert text(browser, "token") == ""
    assert text(browser, "hint").startswith("Click a patch")


def test_patches_are_outlined_in_the_colours_of_their_scales(
    browser: Any, page: Path, shots: list[Shot]
) -> None:
    """The canvas has the scale's colour along the border of a patch, and not when the scale is hidden."""
    show(browser, page)
    shot = shots[0]
    token = int(np.argmax(shot.scale_K))
    scale = int(shot.scale_K[token])
    left, top, _, _ = patch_box(shot, token)
    assert tuple(canvas_pixels(browser)[top, left, :3]) == SCALE_COLOURS[scale]
    browser.find_elements(By.CSS_SELECTOR, "#scales input")[scale].click()
    assert tuple(canvas_pixels(browser)[top, left, :3]) != SCALE_COLOURS[scale]


def canvas_pixels(browser: Any) -> np.ndarray:
    """Read the canvas of the chosen patches, once its picture is there."""
    ready = "return pictures[state.frame].complete && pictures[state.frame].naturalWidth > 0"
    WebDriverWait(browser, PATIENCE_SECONDS).until(lambda b: b.execute_script(ready))
    uri = browser.execute_script("drawChosen(); return chosen.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_playing_ends_at_the_last_frame(browser: Any, page: Path, scene: Scene) -> None:
    """Space plays; at the end the button offers to play again."""
    show(browser, page)
    press(browser, " ")
    end = f"frame {scene.num_frames} of {scene.num_frames}"
    waiting = WebDriverWait(browser, PATIENCE_SECONDS)
    waiting.until(lambda b: text(b, "frame").startswith(end))
    waiting.until(lambda b: text(b, "play") == "Play")


def test_a_curve_leads_to_its_frame(browser: Any, page: Path, scene: Scene) -> None:
    """A click at the right end of a curve shows the last frame."""
    show(browser, page)
    plot = browser.find_element(By.ID, "at-psnr")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(browser).move_to_element_with_offset(
        plot, plot.size["width"] // 2 - 2, 0
    ).click().perform()
    assert text(browser, "frame").startswith(f"frame {scene.num_frames} of ")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_phones_and_screens_in_light_and_dark(
    browser: Any, page: Path, packed: DatasetDirectory, tmp_path: Path, width: int, dark: bool
) -> None:
    """Nothing sticks out sideways; text and ground are far apart in brightness, whichever is asked for."""
    report = tmp_path / "report.html"
    write_report(packed, report, pictures=1)
    for shown in (page, report):
        show(browser, shown, width=width, dark=dark)
        widths = browser.execute_script(
            "const root = document.documentElement; return [innerWidth, root.scrollWidth - root.clientWidth]"
        )
        assert widths == [width, 0]
        colours = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        )
        ink, ground = (sum(map(int, colour[4:-1].split(","))) / 3 for colour in colours)
        assert (ink - ground > 150) if dark else (ground - ink > 150)


def test_hostile_names_are_text_and_nothing_is_fetched(
    browser: Any, page: Path, packed: DatasetDirectory, scene: Scene, tmp_path: Path
) -> None:
    """An id full of markup is shown as it is; no script but ours runs, and no request leaves the page."""
    report = tmp_path / "report.html"
    write_report(packed, report, pictures=2)
    browser.get_log("performance")
    browser.get_log("browser")
    for shown in (page, report):
        show(browser, shown)
        assert browser.execute_script("return window.hacked") is None
        assert scene.sample.meta["id"] in browser.find_element(By.TAG_NAME, "body").text
        assert not browser.find_elements(By.CSS_SELECTOR, "img[src=x], b > b")
    assert "<b>gone</b>" in browser.find_element(By.TAG_NAME, "body").text
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri(), report.as_uri()}
    assert browser.get_log("browser") == []
