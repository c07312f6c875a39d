"""The pages as a browser shows them: whole, local, readable, and every number leads somewhere."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.images import figures
from assignment.publish import pages, readme
from tests.test_notebooks import SECTIONS

NAMES = ["index.html", "01_cifar10_transfer.html", "02_movie_embeddings.html"]
LIVE = ["films.html", "errors.html"]  # built beside them, see test_explore.py
WRITE_HALF = 'echo half > "$(dirname "$0")/pdf/01_cifar10_transfer.pdf"'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = pages.build(tmp_path_factory.mktemp("site"))
    assert [path.name for path in made] == NAMES
    return {path.name: path.read_text(encoding="utf-8") for path in made}


@pytest.mark.parametrize(("markdown", "html"), [
    ("## 2.7 Any *good*?", '<h2 id="27-Any-good">2.7 Any <em>good</em>?</h2>'),
    ("for $i \\neq j$ it", "<mo>&#x02260;</mo><mi>j</mi></mrow></math> it"),
    (r"$\lVert v$", '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo><mi>v</mi>'),
    ("a\n\n$$x^2$$", 'display="block"'),
    ("costs `$5` or `$6`", "costs <code>$5</code> or <code>$6</code>"),
])  # fmt: skip
def test_markdown_becomes_headings_with_ids_and_mathml(markdown: str, html: str) -> None:
    assert html in pages.to_html(markdown)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_and_leads_only_to_what_is_there(site: dict[str, str], name: str) -> None:
    loading = r'(?:src|srcset|data|poster)="|<link[^>]+href="|url\(["\']?'
    loaded = [site[name][match.end() :][:80] for match in re.finditer(loading, site[name])]
    assert not [url for url in loaded if not url.startswith(("data:", "figures/"))]
    # A script from a file, a style sheet, or what nbconvert writes for an image without words.
    assert re.findall("<script |@import|No description has been provided", site[name]) == []
    assert site[name].count("<math") >= (20 if name.startswith("02") else 0)
    ids = {page: re.findall(r'\bid="([^"]+)"', html) for page, html in site.items()}
    links = re.findall(r'<a\b[^>]*href="(?!https://)([^"#]*)#?([^"]*)"', site[name])
    assert links
    for page, place in links:
        assert page in {"", *NAMES, *LIVE}
        assert not place or place in ids[page or name], place


def test_every_card_leads_to_each_question_and_to_what_was_printed(
    site: dict[str, str], tmp_path: Path
) -> None:
    row = re.compile(r'<li><a href="(\w+\.html)#([^"]+)">(\d\.\d[abc]?) ')
    links = row.findall(site["index.html"])
    assert [number for *_, number in links] == [*chain.from_iterable(SECTIONS.values())]
    for page, place, number in links:
        assert f'id="{place}">{number} ' in site[page]
    for _, _, result, *_ in readme.results():
        assert pages.to_html(result).strip() in site["index.html"]
    assert all(f'href="{page}"' in site["index.html"] for page in LIVE)
    assert ".pdf" not in site["index.html"]
    (tmp_path / "pdf").mkdir()
    (tmp_path / "pdf" / "02_movie_embeddings.pdf").touch()
    landing = pages.build(tmp_path / "site")[0].read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+\.pdf)"', landing) == ["../pdf/02_movie_embeddings.pdf"]


def test_a_tall_grid_of_images_is_printed_in_its_rows(site: dict[str, str]) -> None:
    heading, row = figures.HEADING / 2, figures.ROW / 2  # of the page, not of the stored picture
    (first, *others), *_ = (
        re.findall(r"--from: ([\d.]+); --height: ([\d.]+)", grid)
        for grid in re.findall(r'class="rows".*?</div>\n</div>', site[NAMES[1]], re.DOTALL)
    )
    assert [*map(float, first)] == [0, heading + row]
    rows = [[heading + k * row, row] for k in range(1, 10)]
    assert [[*map(float, one)] for one in others] == rows


@pytest.mark.parametrize(("script", "reason"), [
    ("", r"needs Chromium .* none is installed"),
    (f"#!/bin/sh\n{WRITE_HALF}\necho no screen >&2\nexit 3\n", r"print 01_.*: no screen"),
    ("#!/bin/sh\n", r"print 01_.*: no reason given"),
])  # fmt: skip
@pytest.mark.needs("posix")
def test_without_a_working_browser_pdf_is_one_sentence(
    script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "browser").write_text(script, encoding="utf-8")
    (tmp_path / "browser").chmod(0o755 if script else 0o644)
    monkeypatch.setattr(pages, "BROWSERS", [str(tmp_path / "browser")])
    with pytest.raises(AssignmentError, match=reason):
        pages.build_pdf(tmp_path / "pdf")


@pytest.mark.long
@pytest.mark.needs("browser")
def test_both_notebooks_are_printed_whole(tmp_path: Path) -> None:
    for path in pages.build_pdf(tmp_path):
        content = path.read_bytes()
        assert (content[:4], content.rstrip()[-5:]) == (b"%PDF", b"%%EOF")
        assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 25
        source = (settings.PROJECT / "notebooks" / f"{path.stem}.ipynb").read_text("utf-8")
        figures = re.findall(rb"/Subtype\s*/Image\b", content)
        assert len(figures) >= source.count('"image/png": "')


def serious(driver: Any) -> Iterator[str]:
    from axe_core_python.selenium import Axe

    for violation in Axe().run(driver)["violations"]:
        if violation["impact"] in ("serious", "critical"):
            yield f"{violation['id']}: {violation['nodes'][0]['html'][:120]}"


def faults(driver: Any, page: Path, width: int, scheme: str = "light") -> Iterator[str]:
    """Name what is wrong with a page; test_explore.py asks for all of them."""
    prefers = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", prefers)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser"), driver.get_log("performance")  # forget those of earlier pages
    driver.get(page.as_uri())
    yield from (f"console: {entry['message']}" for entry in driver.get_log("browser"))
    messages = "\n".join(entry["message"] for entry in driver.get_log("performance"))
    request = r'Network\.requestWillBeSent".*?"request":\{.*?"url":"([^"]*)"'
    requests = re.findall(request, messages)
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
    yield from serious(driver)


@pytest.mark.long
@pytest.mark.needs("browser")
def test_a_button_folds_and_unfolds_all_code(driver: Any, tmp_path: Path) -> None:
    driver.get(pages.build(tmp_path)[1].as_uri())
    count = "return document.querySelectorAll('details.code[open]').length"
    every = driver.execute_script(count)
    assert every > 5
    for expected in (0, every):
        driver.execute_script("document.getElementById('fold').click()")
        assert driver.execute_script(count) == expected


@pytest.mark.long
@pytest.mark.needs("browser")
def test_every_fault_of_a_page_is_named(driver: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<html lang='en'><title>bad</title><body><main><h1>Bad</h1><p>$x^2$</p><math></math>"
        "<img src='http://127.0.0.1:9/picture.png'><p style='color: #ccc'>pale</p>"
        "<div style='width: 3000px'>wide</div></main></body></html>"
    )
    kinds = {fault.partition(":")[0] for fault in faults(driver, page, 390)}
    assert kinds == {
        *("console", "asks for http", "beyond the edge", "no image", "no formula", "not typeset"),
        *("color-contrast", "image-alt"),
    }
