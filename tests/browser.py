"""The browser that the pages are tested and measured in."""

import shutil
from typing import Any

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
