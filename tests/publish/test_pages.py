"""The pages as a browser shows them: whole, local, readable, and every number leads somewhere."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.publish import pages

NAMES = ["index.html", "01_cifar10_transfer.html", "02_movie_embeddings.html"]
PHONE, DESK = 390, 1280
WRITE_HALF = 'echo half > "$(dirname "$0")/pdf/01_cifar10_transfer.pdf"'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = pages.build(tmp_path_factory.mktemp("site"))
    assert [path.name for path in made] == NAMES
    return {path.name: path.read_text(encoding="utf-8") for path in made}


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("## 2.7 Any *good*?", '<h2 id="27-Any-good">2.7 Any <em>good</em>?</h2>'),
        ("## The data: `likes`", '<h2 id="The-data-likes">The data: <code>likes</code></h2>'),
        ("for $i \\neq j$ it", "<mo>&#x02260;</mo><mi>j</mi></mrow></math> it"),
        ("a\n\n$$x^2$$", 'display="block"'),
        ("costs `$5` or `$6`", "costs <code>$5</code> or <code>$6</code>"),
    ],
)
def test_markdown_becomes_headings_with_ids_and_mathml(markdown: str, html: str) -> None:
    assert html in pages.to_html(markdown)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_and_names_nothing_outside_itself(site: dict[str, str], name: str) -> None:
    loaded = re.findall(r'(?:src|srcset|data|poster)="([^"]{1,80})', site[name])
    loaded += re.findall(r'<link[^>]+href="([^"]{1,80})', site[name])
    loaded += re.findall(r"url\(([^)]{1,80})\)", site[name])
    assert not [url for url in loaded if not url.startswith(("data:", "figures/"))]
    assert "<script" not in site[name]
    assert "@import" not in site[name]
    assert "No description has been provided" not in site[name], "an image without words"
    assert site[name].count("<math") >= (20 if name.startswith("02") else 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_something(site: dict[str, str], name: str) -> None:
    ids = {page: re.findall(r'\bid="([^"]+)"', html) for page, html in site.items()}
    links = re.findall(r'<a\b[^>]*href="([^"]+)"', site[name])
    assert links
    for link in links:
        page, _, place = link.partition("#")
        if not page.startswith("https://"):
            assert page in {"", *NAMES}, link
            assert not place or place in ids[page or name], link


def test_every_number_of_the_assignment_leads_to_its_heading(site: dict[str, str]) -> None:
    found = []
    for row in re.split(r"<tr>\s*", site["index.html"]):
        link = re.match(r'<td>([\d.abc]+)</td>.*?href="([^"#]+)#([^"]+)"', row, re.DOTALL)
        if link:
            number, page, place = link.groups()
            assert re.search(rf'id="{re.escape(place)}">{re.escape(number)} ', site[page])
            found.append(number)
    assert found == [
        *("1.1", "1.2a", "1.2b", "1.3a", "1.3b", "1.3c", "1.4", "1.5", "1.6"),
        *("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"),
    ]


@pytest.mark.parametrize(
    ("browsers", "reason"),
    [
        ([], r"needs Chromium .* none is installed"),
        ([f"#!/bin/sh\n{WRITE_HALF}\necho no screen >&2\nexit 3\n"], r"print 01_.*: no screen"),
        (["#!/bin/sh\n"], r"print 01_.*: no reason given"),
    ],
)
@pytest.mark.needs("posix")
def test_without_a_working_browser_pdf_is_one_sentence(
    browsers: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for script in browsers:
        (tmp_path / "browser").write_text(script, encoding="utf-8")
        (tmp_path / "browser").chmod(0o755)
    monkeypatch.setattr(pages, "BROWSERS", [str(tmp_path / "browser")])
    with pytest.raises(AssignmentError, match=reason):
        pages.build_pdf(tmp_path / "pdf")


# --- in a real browser ----------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.needs("browser")
def test_both_notebooks_are_printed_whole(tmp_path: Path) -> None:
    for path in pages.build_pdf(tmp_path):
        content = path.read_bytes()
        assert content.startswith(b"%PDF")
        assert content.rstrip().endswith(b"%%EOF")
        assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4
        figures = len(re.findall(rb"/Subtype\s*/Image\b", content))
        source = (settings.PROJECT / "notebooks" / f"{path.stem}.ipynb").read_text("utf-8")
        assert figures >= source.count('"image/png": "')


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Headless Chromium, asked through its driver."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = pages.browser() or ""
    for option in (*pages.browser_options(), "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield made
    made.quit()


def faults(driver: Any, page: Path, width: int) -> Iterator[str]:
    """Open a page in a window of a width, and name everything that is wrong with it."""
    from axe_core_python.selenium import Axe

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser"), driver.get_log("performance")  # forget those of earlier pages
    driver.get(page.as_uri())
    yield from (f"console: {entry['message']}" for entry in driver.get_log("browser"))
    messages = "\n".join(entry["message"] for entry in driver.get_log("performance"))
    request = r'Network\.requestWillBeSent".*?"request":\{.*?"url":"([^"]*)"'
    requests = re.findall(request, messages)
    assert page.as_uri() in requests
    yield from (f"asks for {url}" for url in requests if not url.startswith(("file:", "data:")))
    checks = {
        "beyond the edge": "[...document.querySelectorAll('main *')].filter(e => "
        "!e.closest('.scroll, math') && e.getBoundingClientRect().right > innerWidth + 1)",
        "no image": "[...document.images].filter(i => !i.complete || i.naturalWidth < 100)",
        "no formula": "[...document.querySelectorAll('merror')].concat("
        "[...document.querySelectorAll('math')].filter(m => m.getBoundingClientRect().height < 5))",
    }
    for name, script in checks.items():
        shown = driver.execute_script(f"return {script}.map(e => e.outerHTML.slice(0, 80))")
        yield from (f"{name}: {html}" for html in shown)
    text = driver.execute_script("return document.querySelector('main').innerText")
    raw = re.findall(r"\$[^$\n]+\$|\\(?:frac|sum|top|neq|lVert)\b", text)
    yield from (f"not typeset: {formula}" for formula in raw)
    for violation in Axe().run(driver)["violations"]:
        if violation["impact"] in ("serious", "critical"):
            yield f"{violation['id']}: {violation['nodes'][0]['html'][:120]}"


@pytest.mark.long
@pytest.mark.needs("browser")
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_wrong_with_a_page(driver: Any, width: int, tmp_path: Path) -> None:
    for page in pages.build(tmp_path):
        assert list(faults(driver, page, width)) == []


@pytest.mark.long
@pytest.mark.needs("browser")
def test_every_fault_of_a_page_is_named(driver: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<html lang='en'><title>bad</title><body><main><h1>Bad</h1><p>$x^2$</p><math></math>"
        "<img src='http://127.0.0.1:9/picture.png'><p style='color: #ccc'>pale</p>"
        "<div style='width: 3000px'>wide</div></main></body></html>",
        encoding="utf-8",
    )
    kinds = {fault.partition(":")[0] for fault in faults(driver, page, PHONE)}
    assert kinds == {
        *("console", "asks for http", "beyond the edge", "no image", "no formula", "not typeset"),
        *("color-contrast", "image-alt"),
    }
