"""The pages as a browser shows them: whole, local, readable, and every number leads somewhere."""

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.publish import pages

NAMES = ["index.html", "01_cifar10_transfer.html", "02_movie_embeddings.html"]
WIDTHS = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    assert [path.name for path in pages.build(folder)] == NAMES
    return folder


# --- without a browser ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("1.2a Frozen features", "12a-Frozen-features"),
        ("2.7 Is it any good?", "27-Is-it-any-good"),
        ("The data: likes and co-likes", "The-data-likes-and-co-likes"),
    ],
)  # fmt: skip
def test_the_id_of_a_heading_is_made_of_its_words(heading: str, expected: str) -> None:
    assert pages.anchor(heading) == expected
    assert pages.to_html(f"## {heading}") == f'<h2 id="{expected}">{heading}</h2>\n'


def test_formulas_become_mathml_and_prices_do_not() -> None:
    html = pages.to_html("For $i \\neq j$ it is\n\n$$\\sum_i v_i^2$$\n\nand costs `$5` or `$6`.")
    assert html.count("<math") == 2
    assert html.count('display="block"') == 1
    assert "$5" in html
    assert "\\sum" not in html


def test_a_page_names_nothing_outside_itself(site: Path) -> None:
    for name in NAMES:
        html = (site / name).read_text(encoding="utf-8")
        loaded = re.findall(r'(?:src|srcset|data|poster)="([^"]{1,80})', html)
        loaded += re.findall(r'<link[^>]+href="([^"]{1,80})', html)
        loaded += re.findall(r"url\(([^)]{1,80})\)|@import ([^;]{1,80})", html)
        assert not [url for url in loaded if not str(url).startswith(("data:", "figures/"))]
        assert "<script" not in html


def test_the_same_notebooks_give_the_same_pages(site: Path, tmp_path: Path) -> None:
    pages.build(tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (site / name).read_bytes()


def test_without_a_browser_pdf_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssignmentError, match=r"needs Chromium .* none is installed"):
        pages.build_pdf(tmp_path / "pdf")
    assert not (tmp_path / "pdf").exists()


def test_a_browser_that_fails_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-browser"
    broken.write_text("#!/bin/sh\necho no screen >&2\nexit 3\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(pages, "BROWSERS", (str(broken),))
    with pytest.raises(AssignmentError, match=r"could not print 01_.*: no screen"):
        pages.build_pdf(tmp_path / "pdf")


@pytest.mark.needs("browser")
def test_both_notebooks_are_printed_whole(tmp_path: Path) -> None:
    for path in pages.build_pdf(tmp_path):
        content = path.read_bytes()
        assert content.startswith(b"%PDF")
        assert content.rstrip().endswith(b"%%EOF")
        leaves = len(re.findall(rb"/Type\s*/Page\b", content))
        assert leaves >= 4
        figures = len(re.findall(rb"/Subtype\s*/Image\b", content))
        page = (settings.PROJECT / "notebooks" / f"{path.stem}.ipynb").read_text(encoding="utf-8")
        assert figures >= page.count('"image/png": "')


# --- in a real browser ----------------------------------------------------------------------------


class Browser:
    """Headless Chromium, asked through its driver."""

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = pages.browser() or ""
        for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, page: Path, width: int) -> None:
        """Open a page in a window of a width, with the logs of earlier pages forgotten."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.log("browser")
        self.log("performance")
        self.driver.get(page.as_uri())

    def log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]

    def ask(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def asked(self) -> list[str]:
        """Every address that the page has asked for since it was opened."""
        messages = "\n".join(entry["message"] for entry in self.log("performance"))
        request = r'Network\.requestWillBeSent".*?"request":\{.*?"url":"([^"]*)"'
        return re.findall(request, messages)

    def beyond(self) -> list[str]:
        """What reaches over the right edge and does not scroll by itself."""
        return list(
            self.ask(
                "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, math')"
                " && e.getBoundingClientRect().right > window.innerWidth + 1)"
                ".map(e => e.outerHTML.slice(0, 80))"
            )
        )

    def inaccessible(self) -> list[tuple[str, str]]:
        """The serious and critical findings of axe-core."""
        from axe_core_python.selenium import Axe

        return [
            (fault["id"], fault["nodes"][0]["html"][:120])
            for fault in Axe().run(self.driver)["violations"]
            if fault["impact"] in ("serious", "critical")
        ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.mark.needs("browser")
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", NAMES)
class TestInABrowser:
    @pytest.fixture(autouse=True)
    def opened(self, site: Path, browser: Browser, name: str, width: int) -> None:
        browser.open(site / name, width)

    def test_nothing_fails_and_nothing_is_asked_of_another_machine(self, browser: Browser) -> None:
        assert browser.log("browser") == []
        asked = browser.asked()
        assert asked
        assert not [url for url in asked if not url.startswith(("file:", "data:"))]

    def test_nothing_is_wider_than_the_window(self, browser: Browser, width: int) -> None:
        assert browser.ask("window.innerWidth") == width
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.beyond() == []

    def test_every_image_is_there(self, browser: Browser) -> None:
        assert browser.ask("[...document.images].every(i => i.complete && i.naturalWidth > 100)")

    def test_formulas_are_typeset(self, browser: Browser, name: str) -> None:
        heights = browser.ask(
            "[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)"
        )
        assert len(heights) >= (20 if name.startswith("02") else 0)
        assert all(height > 5 for height in heights)
        assert browser.ask("document.querySelectorAll('merror').length") == 0
        text = browser.ask("document.querySelector('main').innerText")
        assert not re.findall(r"\$[^$\n]+\$|\\(?:frac|sum|top|neq|lVert)\b", text)

    def test_it_is_accessible(self, browser: Browser) -> None:
        assert browser.inaccessible() == []


@pytest.mark.needs("browser")
def test_every_check_can_fail(tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<html lang='en'><title>bad</title><body><main><h1>Bad</h1>"
        "<img src='http://127.0.0.1:9/picture.png'><p style='color: #ccc'>pale</p>"
        "<div style='width: 3000px'>wide</div></main></body></html>",
        encoding="utf-8",
    )
    browser.open(page, 390)
    assert "http://127.0.0.1:9/picture.png" in browser.asked()
    assert browser.log("browser")
    assert len(browser.beyond()) == 1
    assert {fault for fault, _ in browser.inaccessible()} == {"color-contrast", "image-alt"}
    assert not browser.ask("[...document.images].every(i => i.naturalWidth > 100)")


@pytest.mark.needs("browser")
class TestLinks:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_link_leads_to_something(self, site: Path, browser: Browser, name: str) -> None:
        browser.open(site / name, 1280)
        links = browser.ask("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        ids = {
            page: set(re.findall(r'\bid="([^"]+)"', (site / page).read_text(encoding="utf-8")))
            for page in NAMES
        }
        for link in links:
            if link.startswith(("https://", "http://")):
                continue
            page, _, place = link.partition("#")
            assert page in {"", *NAMES}, link
            assert not place or place in ids[page or name], link

    def test_every_number_of_the_assignment_leads_to_its_heading(
        self, site: Path, browser: Browser
    ) -> None:
        browser.open(site / "index.html", 1280)
        rows = browser.ask(
            "[...document.querySelectorAll('tr')].filter(r => r.querySelector('a[href*=\"#\"]'))"
            ".map(r => [r.cells[0].innerText, r.querySelector('a').href])"
        )
        numbers = [number for number, _ in rows]
        assert numbers == [
            *("1.1", "1.2a", "1.2b", "1.3a", "1.3b", "1.3c", "1.4", "1.5", "1.6"),
            *("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"),
        ]
        for number, link in rows:
            browser.driver.get(link)
            place = link.split("#")[1]
            heading = browser.ask(f"document.getElementById('{place}').innerText")
            assert heading.startswith(f"{number} ")


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_figure_shows_something_and_says_what(site: Path, name: str) -> None:
    html = (site / name).read_text(encoding="utf-8")
    figures = re.findall(r"<img[^>]*>", html)
    assert figures
    for figure in figures:
        words = re.search(r'alt="([^"]*)"', figure)
        assert words is not None
        assert len(words[1]) > 40
        assert "No description" not in words[1]
        data = re.search(r"data:image/png;base64,([^\"]+)", figure)
        assert data is not None
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("L"))
        assert picture.std() > 5
