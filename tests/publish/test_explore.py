"""The two live pages: what they carry, and that they compute in a browser what the package does.

Every proof names the faults of a page. Each is held against the page as it is built, and shown to
find something on a page with a planted fault.
"""

import base64
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assignment.common import runs, settings
from assignment.common.settings import AssignmentError
from assignment.images import cifar10, labels
from assignment.movies import cost, embedding, movielens, recommend
from assignment.movies.experiments import Study
from assignment.publish import explore, pages, readme
from tests.conftest import absent
from tests.movies.test_recommend import QUERIES
from tests.publish.test_pages import faults, serious

LARGEST = {"films": 2e6, "errors": 6e6}  # bytes


def build(folder: Path, mode: str) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSIGNMENT_MODE", mode)
        return {path.stem: path for path in explore.build(folder)}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("sample"), "sample")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("real"), "recorded")


def carried(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">([^<]+)<', page.read_text(encoding="utf-8"))
    assert found
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


def numbers(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.mark.parametrize("name", LARGEST)
def test_a_page_is_one_file_that_asks_for_nothing(sample: dict[str, Path], name: str) -> None:
    page = sample[name].read_text(encoding="utf-8")
    assert f'<p class="note">{settings.SAMPLE_WARNING}</p>' in page
    assert "{{" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'<(?:link|script|img)[^>]+(?:href|src)="(?!data:)|@import|url\(', page) == []
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|WebSocket|importScripts|eval)\(", page)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert set(re.findall(r'href="(?!data:|#)([^"]+)"', page)) < {
        *("index.html", "01_cifar10_transfer.html", "02_movie_embeddings.html"),
        *("films.html", "errors.html"),
    }


@pytest.mark.usefixtures("sample_mode")
def test_the_films_carry_likes_floors_and_lists_of_the_package(sample: dict[str, Path]) -> None:
    data, page = movielens.load(), carried(sample["films"])
    ids, mapped = np.sort(data.movies.index), numbers(page["mapped"], "<u2")
    assert numbers(page["ids"], "<u4").tolist() == ids.tolist()
    assert [carries["threshold"] for carries in page["likes"]] == [*explore.THRESHOLDS]
    for carries in page["likes"]:
        liked = movielens.build_likes(data, carries["threshold"])
        enough = numbers(page["halfStars"], "u1") >= 2 * carries["threshold"]
        users, films = (numbers(page[name], "<u2")[enough] for name in ("users", "movies"))
        rows, columns = liked.matrix.nonzero()
        assert ids[films].tolist() == liked.movies[columns].tolist()
        assert np.unique(users, return_inverse=True)[1].tolist() == rows.tolist()
        assert carries["step"] == embedding.largest_stable_step(liked)
        found = {dim: embedding.find_floor(liked, dim) for dim in explore.DIMENSIONS}
        for dim, floor in found.items():
            assert carries["floors"][str(dim)]["value"] == pytest.approx(floor.value)
        tens = numbers(carries["floors"]["10"]["tens"], "<u2").reshape(-1, 10)
        near = recommend.by_cosine(data, liked, found[10].vectors)
        for film, ten in zip(mapped[::40], tens[::40], strict=True):
            if ten[0] != explore.NOBODY:
                assert ids[ten].tolist() == near.top([ids[film]])[0].tolist()


@pytest.mark.usefixtures("sample_mode")
def test_the_errors_carry_their_images_and_logits(sample: dict[str, Path]) -> None:
    data, evidence, page = cifar10.load(), labels.load(), carried(sample["errors"])
    images = torch.from_numpy(numbers(page["images"], "<u2").astype(np.int64))
    with Image.open(io.BytesIO(base64.b64decode(page["sprite"]))) as sprite:
        sheet = np.asarray(sprite)
    for place, image in enumerate(images.tolist()):
        top, left = 32 * (place // page["across"]), 32 * (place % page["across"])
        shown = sheet[top : top + 32, left : left + 32].transpose(2, 0, 1)
        assert (shown == data.test.images[image].numpy()).all()
    truth = numbers(page["labels"], "u1")
    assert truth.tolist() == data.test.labels[images].tolist()
    logits = [numbers(text, "<f4").reshape(len(images), -1) for text in page["logits"]]
    assert (np.array([one.argmax(1) for one in logits]) != truth).any(axis=0).all()
    rejected = evidence.rejected[torch.isin(evidence.rejected, images)]
    assert page["rejected"] == rejected.sort().values.tolist()
    copies = torch.isin(images, evidence.copies)
    assert numbers(page["copies"], "u1").tolist() == copies.int().tolist()


def test_without_data_or_finished_models_a_page_says_so(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_kept(_: object) -> None:
        raise AssignmentError("There is no record of finetune; `make train` makes it.")

    monkeypatch.setattr(explore, "_models", none_kept)
    monkeypatch.setitem(explore.PAGES, "films", (movielens.ARCHIVE, dict))
    for page in explore.build(data_folder / "site"):
        assert settings.SAMPLE_WARNING in page.read_text(encoding="utf-8")
    assert "at hand. There is no record of finetune; `make train`" in page.read_text("utf-8")
    said = capsys.readouterr().out
    for archive in (movielens.ARCHIVE, cifar10.ARCHIVE):
        assert re.search(rf"{archive.name}: .* missing in .*\n.*built from the SAMPLE", said)
    assert settings.mode() is settings.Mode.RECORDED, "as before"


@pytest.mark.needs("real_data")
def test_the_real_pages_are_small(real: dict[str, Path]) -> None:
    for name, largest in LARGEST.items():
        assert real[name].stat().st_size < largest
        assert settings.SAMPLE_WARNING not in real[name].read_text(encoding="utf-8")


@pytest.mark.needs("real_data")
def test_without_the_two_lists_there_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "COPIES", replace(labels.COPIES, name="absent.csv"))
    assert not {"copies", "rejected", "votes"} & explore.error_data().keys()


def test_a_fresh_run_goes_before_its_record(
    monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    record = readme.kept("finetune", final=True)[0]
    logits = {"test logits": -record["test logits"]}
    fresh = replace(record, arrays={**record.arrays, **logits})
    runs.write_run(fresh, runs.runs_folder())
    _, tuned = explore._models(cifar10.Dataset(*[None] * 5))  # type: ignore[arg-type]
    assert (tuned.logits.numpy() == logits["test logits"]).all()


# --- in a browser ---------------------------------------------------------------------------------


def open_page(driver: Any, page: Path, address: str = "") -> None:
    driver.get("about:blank")
    driver.get(page.as_uri() + address)
    driver.set_script_timeout(120)
    driver.execute_async_script("ready.then(arguments[0])")


def text(driver: Any, name: str) -> str:
    return str(driver.execute_script("return byId(arguments[0]).innerText", name))


@pytest.fixture(scope="module")
def films() -> tuple[movielens.MovieLens, movielens.Likes]:
    data = movielens.load()
    return data, movielens.build_likes(data)


Films = tuple[movielens.MovieLens, movielens.Likes]


def prove_cost(driver: Any, films: Films) -> Iterator[str]:
    """Cost and gradient in float64, on all likes."""
    _, liked = films
    script = """
        const [numbers, dim] = arguments, V = Float64Array.from(numbers);
        const gradient = new Float64Array(V.length);
        return [costAndGradient(likes, V, dim, gradient), Array.from(gradient)];
    """
    for dim in (10, 25):
        V = embedding.random_start(len(liked.movies), dim, scale=0.3).double()
        expected, slope = cost.build_cost(liked).cost_and_gradient(V)
        found, gradient = driver.execute_script(script, V.ravel().tolist(), dim)
        apart = abs(found / expected.item() - 1)
        turned = (slope.new_tensor(gradient).view_as(slope) - slope).norm() / slope.norm()
        if not max(apart, turned) < 1e-9:
            yield f"d = {dim}: cost {apart:.1e} and gradient {turned:.1e} apart"


def prove_optimisers(driver: Any, films: Films) -> Iterator[str]:
    """The losses of 300 steps from the package's own start, to the last."""
    _, liked = films
    step = embedding.largest_stable_step(liked)
    start = embedding.random_start(len(liked.movies), 10).double().ravel().tolist()
    rates = {"sgd": 0.9 * step, "momentum": 0.5 * step, "nesterov": 0.5 * step, "adam": 0.1}
    script = """
        const [optimiser, lr, start] = arguments;
        const run = beginRun(likes, { dim: 10, optimiser, lr, start: Float64Array.from(start) });
        for (let step = 0; step < 300; step++) run.step();
        return run.losses;
    """
    for name, lr in rates.items():
        losses = driver.execute_script(script, name, lr, start)
        expected = embedding.fit(liked, 10, name, lr, 300)
        apart = np.abs(np.append(losses, losses[-1]) / [*expected.losses, expected.final] - 1)
        if not apart.max() < 1e-3:
            yield f"{name}: losses {apart.max():.1e} apart, after {apart.argmax()} steps"


def prove_neighbours(driver: Any, films: Films) -> Iterator[str]:
    """Ten neighbours of fifty films under four rankings, but for ties closer than 1e-3."""
    data, liked = films
    study = Study(data, liked, recommend.find_films(data, liked, explore.EXAMPLES))
    vectors = np.asarray(study.floor(explore.DIM, keep_vectors=True)["vectors"], dtype=np.float64)
    rankings = [by(*films, vectors) for by in (recommend.by_cosine, recommend.by_inner_product)]
    rankings += [by(*films) for by in (recommend.by_colikes, recommend.by_cosine_colikes)]
    known = liked.movies[vectors.any(axis=1)]
    asked = np.random.default_rng(0).choice(known, 50, replace=False)
    script = """
        const [asked, ranking] = arguments;
        const ten = id => nearest(films.ids.indexOf(id), ranking);
        return asked.map(id => ten(id).map(({ film }) => films.ids[film]));
    """
    for ranking in rankings:
        found = driver.execute_script(script, asked.tolist(), ranking.score)
        for film, ten in zip(asked, found, strict=True):
            scores = ranking.similar(film, len(known) - 1)[ranking.score]
            best = scores.to_numpy()[:10]
            near = 1e-3 * abs(best).max()
            if len({*ten}) != 10 or not (abs(scores[ten].to_numpy() - best) < near).all():
                yield f"{ranking.score}, {data.movies['title'][film]}: {ten}"


ODD = [*chain.from_iterable(QUERIES.values()), "hard", "Emma", "Emma (1996)", "Star Wars", "the"]
ODD += ["M*A*S*H", "&", "8 1/2", "8½", "", "(1995)", "Das Boot", "Boot", "Hamlet", "hamlet (1996)"]
ODD += ["I, Robot", "Æon Flux", "aeon flux", "Jules & Jim", "Jules and Jim", "Straße", "nosuchfilm"]


def prove_search(driver: Any, films: Films) -> Iterator[str]:
    """The spellings of every title, and what odd titles find."""
    catalogue = recommend.by_colikes(*films)
    index = driver.execute_script(
        "return [...bySpelling].map(([spelling, some]) => [spelling, some.map(f => films.ids[f])])"
    )
    spelled = {(spelling, film) for film, some in catalogue._spelled.items() for spelling in some}
    spelled ^= {(spelling, film) for spelling, some in index for film in some}
    yield from (f"only one spells {film} {spelling!r}" for spelling, film in spelled)
    script = """
        byId("search").value = arguments[0];
        show({ film: films.examples[2] });
        byId("said").textContent = "";
        const enter = new KeyboardEvent("keydown", { key: "Enter" });
        byId("search").dispatchEvent(enter);
        return [films.ids[state.film], byId("said").textContent];
    """
    for query in ODD:
        film, said = driver.execute_script(script, query)
        try:
            expected = catalogue.find(query)
            if (film, said) != (expected, ""):
                yield f"{query!r} finds {film} ({said}), expected {expected}"
        except AssignmentError as error:
            counted = re.search(r"names \d+ films", str(error))
            wanted = counted[0] if counted else "No film is called|Nobody gave"
            if query.strip() and not re.search(wanted, said):
                yield f"{query!r} finds {film} ({said}), expected: {error}"


FILTERS: list[dict[str, Any]] = [
    *({}, {"model": "0"}, {"model": "1"}, {"model": "corrected"}, {"model": "lost"}),
    *({"truth": "3"}, {"predicted": "5"}, {"truth": "3", "predicted": "5"}),
    *({"model": "1", "truth": "3", "predicted": "5"}, {"least": "90"}, {"most": "50"}),
    *({"model": "0", "least": "50", "most": "75"}, {"model": "1", "least": "99"}),
    *({"evidence": name} for name in ("rejected", "accepted", "copy", "original")),
    *({"model": "1", "evidence": "rejected", "least": "80"}, {"model": "lost", "evidence": "copy"}),
    {"model": "corrected", "truth": "9", "most": "60", "order": "image"},
]
USUAL = (("model", "both"), ("least", 0), ("most", 100))


def prove_filters(driver: Any, films: Films) -> Iterator[str]:
    """How many errors pass twenty filters, from the logits themselves."""
    both, evidence = explore._models(cifar10.load()), labels.load()
    places = torch.arange(len(both[0].labels))
    marked = {"rejected": torch.isin(places, evidence.rejected)}
    marked |= {"copy": torch.isin(places, evidence.copies), "accepted": ~marked["rejected"]}
    marked |= {"original": ~marked["copy"], "": places >= 0}
    for chosen in FILTERS:
        model, least, most = (chosen.get(key, usual) for key, usual in USUAL)
        passing = []
        for name, found, other in (("0", both[0], both[1]), ("1", both[1], both[0])):
            sure = 100 * found.log_confidence.exp()
            some = ~found.correct & (sure >= float(least)) & (sure <= float(most))
            some &= marked[chosen.get("evidence", "")]
            for key, values in (("truth", found.labels), ("predicted", found.predicted)):
                some &= values == int(chosen[key]) if key in chosen else True
            some &= other.correct if model in ("corrected", "lost") else True
            some &= name in {"both": "01", "corrected": "0", "lost": "1"}.get(model, model)
            passing.append(some)
        either = torch.stack(passing)
        counts, images = int(either.sum()), int(either.any(0).sum())
        address = "&".join(f"{key}={value}" for key, value in chosen.items())
        driver.execute_script("location.hash = arguments[0]; openAddress()", address)
        shown = [int(n.replace(",", "")) for n in re.findall(r"[\d,]+", text(driver, "count"))]
        if shown != [counts, images] and (counts or shown):
            yield f"{chosen}: {shown}, expected {counts} on {images}"


# Of each: the page, the proof, and a fault to plant.
PROOFS: dict[str, tuple[str, Callable[..., Iterator[str]], str, str]] = {
    "cost and gradient": ("films", prove_cost, "4 * sum", "4.00001 * sum"),
    "optimisers": ("films", prove_optimisers, "const MOMENTUM = 0.9", "const MOMENTUM = 0.8"),
    "neighbours": ("films", prove_neighbours, "own * Math.sqrt(square)", "own"),
    "search": ("films", prove_search, '.normalize("NFKD")', ""),
    "filters": ("errors", prove_filters, "sure >= Number", "sure > 1 + Number"),
}  # fmt: skip


def spoil(page: Path, folder: Path, fault: str, planted: str) -> Path:
    """Plant a fault; the policy then names the changed script."""
    whole = page.read_text(encoding="utf-8")
    assert whole.count(fault) == 1
    whole = whole.replace(fault, planted)
    policy = f'content="{explore._policy(whole)}"'
    whole = re.sub(r'content="default-src[^"]+"', lambda _: policy, whole, count=1)
    (folder / page.name).write_text(whole, encoding="utf-8")
    return folder / page.name


@pytest.mark.long
@pytest.mark.needs("browser", "real_data", "label_lists")
@pytest.mark.parametrize("what", PROOFS)
def test_a_page_computes_what_the_package_does(
    driver: Any, films: Films, real: dict[str, Path], what: str, tmp_path: Path
) -> None:
    name, prove, fault, planted = PROOFS[what]
    open_page(driver, real[name])
    assert list(prove(driver, films)) == []
    open_page(driver, spoil(real[name], tmp_path, fault, planted))
    assert next(prove(driver, films), None), "the planted fault is found"


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> dict[str, Path]:
    """The real pages where there are real data."""
    pages: dict[str, Path] = request.getfixturevalue("sample" if absent("real_data") else "real")
    return pages


@pytest.mark.long
@pytest.mark.needs("browser")
@pytest.mark.parametrize(("kind", "scheme", "width"), [
    ("sample", "light", 390), *product(["built"], ["light", "dark"], [390, 1280])
])  # fmt: skip
def test_nothing_is_wrong_with_a_page(
    driver: Any, request: pytest.FixtureRequest, kind: str, scheme: str, width: int, tmp_path: Path
) -> None:
    live = request.getfixturevalue(kind).values()
    for page in (*live, *pages.build(tmp_path)):
        assert list(faults(driver, page, width, scheme)) == []
        paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        if page in live:
            assert driver.execute_script("return !byId('tools').hidden"), "its script ran"
            noted = driver.execute_script("return !!document.querySelector('.note:not([hidden])')")
            assert noted == (kind == "sample" or absent("real_data") != [])


def wait(driver: Any, condition: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 60).until(lambda _: driver.execute_script(f"return {condition}"))


@pytest.mark.long
@pytest.mark.needs("browser")
def test_a_worker_trains_while_the_page_answers(driver: Any, built: dict[str, Path]) -> None:
    open_page(driver, built["films"])
    press = "byId(arguments[0]).click()"
    driver.execute_script("byId('settings').requestSubmit()")
    wait(driver, "training.current.losses.length > 20")
    show = "const began = performance.now(); show({ film: films.examples[1] }); "
    assert driver.execute_script(show + "return performance.now() - began") < 500
    driver.execute_script(press, "pause")
    wait(driver, "!training.going")
    steps = driver.execute_script("return training.current.losses.length - 1")
    assert "Paused after" in text(driver, "verdict") or steps == 1000
    driver.execute_script(press, "step")
    wait(driver, f"training.current.losses.length - 1 === {min(steps + 1, 1001)}")
    wait(driver, "byId('live').children.length === 10")
    assert "of the ten to which it converges" in text(driver, "live-facts")
    driver.execute_script("byId('optimiser').value = 'sgd'; byId('optimiser').onchange()")
    driver.execute_script("byId('rate').value = 4; byId('rate').oninput()")
    assert text(driver, "rate-said").startswith("10 × the predicted largest stable step")
    driver.execute_script("byId('settings').requestSubmit()")
    wait(driver, "training.current.diverged")
    wait(driver, "byId('verdict').innerText.startsWith('Diverged after')")
    assert "10 times the largest stable one" in text(driver, "verdict")
    assert driver.execute_script("return byId('runs').tBodies[0].rows.length") == 2, "to compare"
    driver.execute_script(press, "reset")
    assert driver.execute_script("return byId('runs').tBodies[0].rows.length") == 1


@pytest.mark.long
@pytest.mark.needs("browser")
def test_a_film_on_the_map_is_shown_by_mouse_and_by_touch(
    driver: Any, built: dict[str, Path]
) -> None:
    open_page(driver, built["films"])
    place = """
        const [x, y] = project(dots[arguments[0]]), frame = byId("map").getBoundingClientRect();
        return [x + frame.x, y + frame.y];
    """
    apart = """
        const [x, y] = project(dots[arguments[0]]);
        const [right, down] = project(dots.find(dot => dot.film === state.film));
        return Math.hypot(right - x, down - y);
    """
    driver.execute_script("byId('map').scrollIntoView({behavior: 'instant'})")
    for dot, send in ((3, click), (60, touch)):
        send(driver, *driver.execute_script(place, dot))
        assert driver.execute_script(apart, dot) < 3, "that film, or one that it lies upon"
    hover(driver, *driver.execute_script(place, 100))
    assert text(driver, "tip").endswith((" like", " likes"))
    driver.execute_script("byId('closer').click()")
    assert driver.execute_script("return Math.hypot(...middle()) > 0 && view.zoom > 1")


def hover(driver: Any, x: float, y: float) -> None:
    point = {"type": "mouseMoved", "x": x, "y": y}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", point)


def click(driver: Any, x: float, y: float) -> None:
    for kind in ("mousePressed", "mouseReleased"):
        point = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", point)


def touch(driver: Any, x: float, y: float) -> None:
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.long
@pytest.mark.needs("browser")
def test_everything_is_reached_with_the_keyboard(driver: Any, built: dict[str, Path]) -> None:
    from selenium.webdriver import ActionChains, Keys

    def keys(name: str, *pressed: str) -> None:
        driver.execute_script("byId(arguments[0]).focus()", name)
        ActionChains(driver).send_keys(*pressed).perform()

    open_page(driver, built["films"])
    before = driver.execute_script("return state.film")
    keys("search", "toy", Keys.ARROW_DOWN)
    assert driver.execute_script("return byId('search').getAttribute('aria-activedescendant')")
    keys("search", Keys.ENTER)
    chosen = driver.execute_script("return state.film")
    assert chosen != before
    assert "Toy Story" in text(driver, "film-title")
    keys("map", Keys.ARROW_RIGHT)
    assert driver.execute_script("return state.film") != chosen
    title = text(driver, "film-title")
    address = driver.current_url.partition("#")[2]
    open_page(driver, built["films"], f"#{address.replace('ranking=cosine', 'ranking=co-likes')}")
    assert (text(driver, "film-title"), "co-likes" in text(driver, "ten")) == (title, True)
    open_page(driver, built["errors"], "#model=1")
    every = text(driver, "count")
    driver.execute_script("document.querySelector('#confusion [tabindex=\"0\"]').focus()")
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT, Keys.ENTER).perform()
    assert driver.current_url.endswith("#model=1&truth=0&predicted=2")
    assert driver.execute_script("return document.activeElement.id") == "cell-0-2", "it stays there"
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert text(driver, "count") == every
    driver.execute_script("byId('tiles').querySelector('button').focus()")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    detail = "return byId('detail').open && byId('probabilities').rows.length"
    assert driver.execute_script(detail) == 11
    assert list(serious(driver)) == []
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert not driver.execute_script("return byId('detail').open")
