"""The site: made without a warning, every public name in it, and readable in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait
from sphinx.util.inventory import InventoryFile

from tests.browser import WIDTHS, Browser
from tests.conftest import ROOT
from tests.test_repository import parse, public, python_files

pytestmark = pytest.mark.slow

#: Pages of each kind: plain, long names, long tables, formulas, pictures.
PAGES = (
    "docs/site/index.html",
    "docs/site/api.html",
    "docs/site/api/de3dgan.stages.virtual.html",
    "docs/site/api/de3dgan.models.views.html",
    "README.html",
    "docs/design.html",
    "benchmarks/SPEED.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return the folder of the site, made as ``make site`` makes it."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, "-c", "docs/site", ".", out],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ""},  # lest modules be changed as they are in tests
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_public_name_is_in_it(site):
    with open(site / "objects.inv", "rb") as file:
        inventory = InventoryFile.loads(file.read(), uri="")
    listed = {name for kind, names in inventory.data.items() if "py:" in kind for name in names}
    expected = set()
    for path in python_files("de3dgan", "models"):
        if path.name == "__init__.py":
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = module if module.startswith("de3dgan") else f"de3dgan.{module}"
        expected |= {module, *(f"{module}.{name}" for name, _ in public(parse(path)))}
    assert len(expected) > 500
    assert expected - listed == set()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_and_a_browser_has_nothing_to_say(page, width, site, browser):
    browser.open(site / page, width)
    assert browser.too_wide() <= 0
    assert not browser.complaints()
    assert browser.driver.find_element(By.TAG_NAME, "h1").text


@pytest.mark.parametrize("width", WIDTHS)
def test_a_name_is_found(width, site, browser: Browser):
    browser.open(site / "docs/site/index.html", width)
    if width < 600:
        browser.driver.find_element(By.CSS_SELECTOR, ".nav-overlay-icon").click()
    box = browser.driver.find_element(By.CSS_SELECTOR, "input.sidebar-search")
    WebDriverWait(browser.driver, 10).until(lambda _: box.is_displayed())
    box.send_keys("draw_people", Keys.ENTER)
    wait = WebDriverWait(browser.driver, 30)
    hits = wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li a"))
    assert any("draw_people" in hit.text for hit in hits)
    assert browser.too_wide() <= 0
    hits[0].click()
    assert "de3dgan.stages.virtual" in browser.driver.current_url
    assert not browser.complaints()


def test_the_first_page_leads_to_the_reference(site, browser):
    browser.open(site / "index.html")
    wait = WebDriverWait(browser.driver, 30)
    for by, text in (
        (By.PARTIAL_LINK_TEXT, "Reference"),
        (By.LINK_TEXT, "models"),
        (By.PARTIAL_LINK_TEXT, "views"),
    ):
        wait.until(expected_conditions.element_to_be_clickable((by, text))).click()
    wait.until(lambda driver: "Views" in driver.page_source)
