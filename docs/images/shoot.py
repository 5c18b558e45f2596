"""Photographs `gazepack view`'s page for the tutorial: `python docs/images/shoot.py`, with Debian's chromium.

The video is the generated scene of `draw.py`, packed and shown by the program; frame 5, its first token picked.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from draw import FPS, HEIGHT, NUM_FRAMES, SEED, WIDTH
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gazepack.cli.main import run
from gazepack.video import write_video
from gazepack.video.scenes import objects

PAGE_WIDTH, PAGE_HEIGHT = 1100, 640
PICTURE = Path(__file__).with_name("page.webp")


def main(picture: Path = PICTURE) -> int:
    """Draw, pack, show and photograph; return the exit code of the first command that failed, or 0."""
    with tempfile.TemporaryDirectory() as folder:
        video, packed, page = (
            Path(folder, name) for name in ("objects.mp4", "packed", "page.html")
        )
        frames = objects(WIDTH, HEIGHT, NUM_FRAMES, SEED)
        write_video(video, frames, fps=FPS, options={"crf": "12"})
        packing = ["pack", str(video), "--out", str(packed), "--fps", "5", "--min-psnr", "34"]
        code = run(packing) or run(["view", str(packed), "--out", str(page)])
        if code == 0:
            photograph(page, picture, profile=Path(folder, "chromium"))
        return code


def photograph(page: Path, picture: Path, *, profile: Path) -> None:
    """Open a page in chromium, go to the fifth frame and its first token, and keep what is seen."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={profile}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": PAGE_WIDTH, "height": PAGE_HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        body = browser.find_element(By.TAG_NAME, "body")
        body.send_keys(*[Keys.ARROW_RIGHT] * 4, "n")
        with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as seen:
            seen.convert("RGB").save(picture, quality=85)
    finally:
        browser.quit()


if __name__ == "__main__":
    sys.exit(main())
