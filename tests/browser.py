"""Pages in a real browser, Chromium without a window: what it says, and how wide they are."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from selenium import webdriver

#: Widths of a desk's screen and of a phone's, in pixels.
WIDTHS = (1280, 390)


class Browser:
    """A browser that opens files of this machine.

    Attributes
    ----------
    driver : webdriver.Chrome
        For what is not here.
    """

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, path: Path, width: int = WIDTHS[0], query: str = "") -> None:
        """Open a page in a window of a width."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(path.resolve().as_uri() + query)
        # With scripts switched off the driver does not wait for the page.
        loaded = "return document.readyState == 'complete' && document.body.childElementCount > 0"
        WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(loaded))

    def scripts(self, run: bool) -> None:
        """Have pages that are opened from now on run their scripts, or not."""
        disabled = {"value": not run}
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", disabled)

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self.driver.print_page())

    def complaints(self) -> list[str]:
        """Return what it has said in its console since this was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def too_wide(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        root = "document.documentElement"
        return self.driver.execute_script(f"return {root}.scrollWidth - {root}.clientWidth")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a browser, or skip where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip(
            "there is no browser: install Chromium with its driver (Debian: chromium-driver)"
        )
    from selenium import webdriver  # it takes a while
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(driver))
    yield Browser(driver)
    driver.quit()
