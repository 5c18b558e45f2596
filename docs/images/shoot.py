"""Photographs `gazepack view`'s page for the tutorial: `python docs/images/shoot.py`, with Debian's chromium.

The video is the generated scene of `draw.py`, packed and shown by the program; frame 5, its first token picked.
"""

import io
import shutil
import tempfile
from pathlib import Path

from draw import gazepack, packed_scene
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PAGE_WIDTH, PAGE_HEIGHT = 1100, 640
PICTURE = Path(__file__).with_name("page.webp")


def shoot(packed: Path, picture: Path) -> None:
    """Photograph the page of a dataset's first sample into a file."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        gazepack("view", packed, "--out", page)
        browser = start_browser(profile=Path(folder, "chromium"))
        try:
            browser.get(page.as_uri())
            body = browser.find_element(By.TAG_NAME, "body")
            body.send_keys(*[Keys.ARROW_RIGHT] * 4, "n")
            seen = browser.get_screenshot_as_png()
        finally:
            browser.quit()
    with Image.open(io.BytesIO(seen)) as image:
        image.convert("RGB").save(picture, quality=85)


def start_browser(*, profile: Path) -> webdriver.Chrome:
    """Start chromium with a page of the picture's size."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={profile}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": PAGE_WIDTH, "height": PAGE_HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return browser


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shoot(packed_scene(Path(folder)), PICTURE)
