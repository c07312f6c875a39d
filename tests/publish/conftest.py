"""One browser for all tests of a module."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import open_browser


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser
