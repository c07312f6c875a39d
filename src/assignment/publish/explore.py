"""Two pages to try things on: the films, their map and their training; and every error.

Each is one file with its data, style and scripts in it, which opens from a disk. Its policy names
its scripts and its style by their checksums and allows nothing else, from anywhere.
"""

import base64
import gzip
import hashlib
import html
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from assignment.common import runs, settings
from assignment.common.download import Archive
from assignment.common.settings import SAMPLE_WARNING, AssignmentError, Mode, report
from assignment.images import cifar10, experiments, labels, resnet
from assignment.images.cifar10 import Dataset
from assignment.images.linear import FeatureSet
from assignment.images.predictions import Predictions
from assignment.movies import embedding, movielens, recommend
from assignment.movies.experiments import Study
from assignment.movies.movielens import MovieLens
from assignment.publish import readme

FOLDER = Path(__file__).with_suffix("")  # the pages' HTML, CSS and JavaScript
STYLE = Path(__file__).with_name("page_template") / "page.css"
EXAMPLES = ("Apollo 13", "Toy Story", "Home Alone")
THRESHOLDS, DIMENSIONS, DIM = (3.5, 4.0, 4.5), (5, 10, 25, 50), 50
MAPPED = 5  # likes of a film that is on the map
NOBODY = 0xFFFF  # in the place of a film: there is none
MODELS = ("frozen features", "finetuned")
ACROSS = 32  # images in a row of the sprite


def build(folder: Path) -> list[Path]:
    """Write both pages, of the sample where the data are absent; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made, asked = [], settings.mode()
    for name, (archive, gather) in PAGES.items():
        try:
            archive.source(settings.data_folder() / archive.folder)
        except AssignmentError as error:
            os.environ["ASSIGNMENT_MODE"] = Mode.SAMPLE
            if asked is not Mode.SAMPLE:
                report(f"{error}\nThe page of {archive.name} is built from the {SAMPLE_WARNING}.")
        made.append(folder / f"{name}.html")
        made[-1].write_text(_write_page(name, gather()), encoding="utf-8")
        os.environ["ASSIGNMENT_MODE"] = asked
    return made


def film_data() -> dict[str, Any]:
    """Gather what `films.html` carries: ratings, vectors, floors, places and how to spell."""
    data = movielens.load()
    liked = movielens.build_likes(data)
    study = Study(data, liked, recommend.find_films(data, liked, EXAMPLES))
    movies = data.movies.sort_index()
    ids = movies.index.to_numpy()
    mapped = liked.movies[liked.count >= MAPPED]
    places = study.film_map(fewest=MAPPED)["places"]
    ratings = data.ratings[data.ratings["rating"] >= min(THRESHOLDS)]
    ratings = ratings.sort_values(["userId", "movieId"])
    vectors = np.asarray(study.floor(DIM, keep_vectors=True)["vectors"], dtype=np.float64)
    longest = np.abs(vectors).max(axis=1, keepdims=True)
    genres = movies["genres"].str.split("|")
    names = sorted({genre for some in genres for genre in some})
    return {
        "ids": _pack(ids, "<u4"),  # by movieId, as in `Likes`; below a film is its place here
        "titles": movies["title"].tolist(),
        "years": _pack(movies["year"].fillna(0), "<u2"),
        "genres": names,
        "genresOf": [[names.index(one) for one in some] for some in genres],
        "users": _pack(np.unique(ratings["userId"], return_inverse=True)[1], "<u2"),
        "movies": _pack(np.searchsorted(ids, ratings["movieId"]), "<u2"),
        "halfStars": _pack(2 * ratings["rating"], "u1"),
        "threshold": liked.threshold,
        "dim": DIM,
        # Whole numbers that a film's longest component makes 32,767: 1e-5 of it is lost at most.
        "components": _pack(np.round(vectors / np.where(longest, longest, 1) * 32767), "<i2"),
        "longest": _pack(longest, "<f4"),
        "mapped": _pack(np.searchsorted(ids, mapped), "<u2"),
        "places": _pack(
            np.round((places - places.min(0)) / np.ptp(places, axis=0).max() * 65535), "<u2"
        ),
        "examples": np.searchsorted(ids, study.films).tolist(),
        "likes": [_training(data, threshold, mapped, ids) for threshold in THRESHOLDS],
        "spelling": {
            "year": recommend.YEAR.pattern,
            "alternative": recommend.ALTERNATIVE.pattern,
            "leading": recommend.LEADING.pattern,
            "trailing": recommend.TRAILING.pattern,
            "letters": {chr(letter): text for letter, text in recommend.UNACCENTED.items()},
        },
    }


def _training(
    data: MovieLens, threshold: float, mapped: np.ndarray, ids: np.ndarray
) -> dict[str, Any]:
    """Return the predicted step and, for each dimension, the floor and the ten of mapped films."""
    liked, floors = movielens.build_likes(data, threshold), {}
    for dim in DIMENSIONS:
        best = embedding.find_floor(liked, dim)
        # A film without co-likes has no direction, and so no neighbours.
        known = np.isin(mapped, liked.movies[best.vectors.any(axis=1)])
        tens = np.full((len(mapped), 10), NOBODY)
        found = recommend.by_cosine(data, liked, best.vectors).top(mapped[known])
        tens[known] = np.searchsorted(ids, found)
        floors[dim] = {"value": best.value, "tens": _pack(tens, "<u2")}
    step = embedding.largest_stable_step(liked)
    return {"threshold": threshold, "step": step, "floors": floors}


def error_data() -> dict[str, Any]:
    """Gather what `errors.html` carries: every image that a model gets wrong, and both's logits."""
    data = cifar10.load()
    try:
        found = _models(data)
    except AssignmentError as error:
        return {"absent": f"The two models of notebook 1 are not at hand. {error}"}
    truth = found[0].labels.numpy()
    wrong = np.flatnonzero(~(found[0].correct & found[1].correct).numpy())
    shown = {
        "classes": data.classes,
        "models": MODELS,
        "images": _pack(wrong, "<u2"),
        "labels": _pack(truth[wrong], "u1"),
        "logits": [_pack(one.logits[wrong], "<f4") for one in found],
        "tested": len(truth),
        "sprite": _draw_sprite(data.test.images[wrong]),
        "across": ACROSS,
    }
    lists = [settings.data_folder() / one.name for one in (labels.RATINGS, labels.COPIES)]
    if settings.mode() is Mode.SAMPLE or all(path.is_file() for path in lists):
        evidence = labels.load()
        rated = (evidence.images, evidence.others, evidence.votes)
        shown["copies"] = _pack(np.isin(wrong, evidence.copies.numpy()), "u1")
        shown["rejected"] = np.intersect1d(wrong, evidence.rejected.numpy()).tolist()
        shown["votes"] = {
            image: [other, *votes]
            for image, other, votes in zip(*(each.tolist() for each in rated), strict=True)
            if image in wrong
        }
    return shown


def _models(data: Dataset) -> list[Predictions]:
    """Return the test predictions of the finished models; only the sample's are trained here."""
    if settings.mode() is Mode.SAMPLE:
        recipe = experiments.IMPATIENT.recipe
        frozen = experiments.linear_probe(data, FeatureSet(), recipe, final=True)
        results = [frozen, experiments.finetune(data, experiments.IMPATIENT, final=True)]
    else:
        records = [readme.kept(name, final=True)[0] for name in ("linear_probe", "finetune")]
        results = [experiments.read_result(runs.find(record) or record) for record in records]
    return [result.predictions["test"] for result in results]


def _draw_sprite(images: torch.Tensor) -> str:
    """Put images [N, 3, 32, 32] side by side in one PNG, as text."""
    grid = resnet.import_torchvision().utils.make_grid(images, nrow=ACROSS, padding=0)
    file = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


PAGES: dict[str, tuple[Archive, Callable[[], dict[str, Any]]]] = {
    "films": (movielens.ARCHIVE, film_data),
    "errors": (cifar10.ARCHIVE, error_data),
}


def _pack(numbers: ArrayLike, dtype: str) -> str:
    """Write numbers as JavaScript's typed arrays read them."""
    return base64.b64encode(np.asarray(numbers).astype(dtype).tobytes()).decode()


def _write_page(name: str, data: Mapping[str, Any]) -> str:
    """Put a page together: style, scripts and data go into its HTML, then the policy."""
    sample = SAMPLE_WARNING if settings.mode() is Mode.SAMPLE else ""
    notes = [note for note in (sample, str(data.get("absent", ""))) if note]
    packed = gzip.compress(json.dumps(data).encode(), mtime=0)
    parts = {path.name: path.read_text(encoding="utf-8") for path in [STYLE, *FOLDER.iterdir()]}
    parts["data"] = base64.b64encode(packed).decode()
    parts["notes"] = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes)
    whole = re.sub(r"\{\{ ([\w.]+) \}\}", lambda found: parts[found[1]], parts[f"{name}.html"])
    return whole.replace("POLICY", _policy(whole), 1)


def _policy(page: str) -> str:
    sources = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{kind}(?: id=\"\w+\")?>(.*?)</{kind}>", page, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
