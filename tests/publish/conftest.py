"""The browser that the pages are tested in."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from assignment.publish import pages


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = pages.browser() or ""
    for option in (*pages.browser_options(), "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as made:
        yield made
