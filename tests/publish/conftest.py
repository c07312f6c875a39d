"""One browser for all tests of a module; it is also what pages are measured in."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from assignment.publish import pages


def open_browser() -> Any:
    """Start headless Chromium; it keeps what the console says and every request that is made."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = pages.browser() or ""
    for option in (*pages.browser_options(), "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser
