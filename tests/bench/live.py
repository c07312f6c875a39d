"""How many steps a second the page of the films trains at, in a worker of headless Chromium."""

import shutil
import tempfile
from pathlib import Path

from assignment.publish import explore, pages
from tests.publish.conftest import open_browser

STEPS = 150
TRAIN = """
    const [dim, steps, done] = arguments;
    byId("dim").value = dim;
    begin(steps);
    const began = performance.now();
    const look = () => (training.current.losses.length > steps
      ? done((1000 * steps) / (performance.now() - began)) : setTimeout(look, 5));
    look();
"""


def steps_per_second() -> dict[int, float]:
    """Train at each dimension on the page; nothing where there is no browser to open it in."""
    if not (pages.browser() and shutil.which("chromedriver")):
        return {}
    with tempfile.TemporaryDirectory() as folder, open_browser() as driver:
        page, *_ = explore.build(Path(folder))
        driver.set_script_timeout(120)
        driver.get(page.as_uri())
        driver.execute_async_script("ready.then(arguments[0])")
        driver.execute_async_script(TRAIN, explore.DIMENSIONS[0], 1)  # starts the worker
        return {dim: driver.execute_async_script(TRAIN, dim, STEPS) for dim in explore.DIMENSIONS}
