"""What the READMEs say of results and of speed, written from the records and from nothing else."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from assignment.common import runs
from assignment.common.files import AnyPath
from assignment.common.runs import Run
from assignment.common.settings import PROJECT, AssignmentError
from assignment.images import resnet
from assignment.images.answers import accuracy
from assignment.images.experiments import mean_accuracy, minutes_to, read_result
from assignment.movies.experiments import pool_splits

PAGES = ("README.md", "tests/README.md", "data/README.md")
MATTER = {  # rows of the benchmark: those against these
    "the literal dense cost",
    "the bare network on a resident batch",
    "dataset, PIL and DataLoader, 2 workers, float32",
    "the frozen network run in every epoch",
}
GITHUB = "https://github.com/"
HOSTS = (  # that open a notebook of a repository there: a badge's picture, and the way to it
    ("https://colab.research.google.com/", "assets/colab-badge.svg", "github/"),
    ("https://kaggle.com/", "static/images/open-in-kaggle.svg", f"kernels/welcome?src={GITHUB}"),
)
METHODS = ("embeddings, cosine", "embeddings, chosen", "popularity", "EASE")


def update(root: AnyPath) -> None:
    """Write what the records say into its places in the READMEs."""
    for page in PAGES:
        path = Path(root) / page
        path.write_text(with_records(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_records(text: str) -> str:
    """Return a README's text with what stands between its markers as it should be."""
    # Badges stay as they are but where an address is named that hosts can open.
    address = os.environ.get("ASSIGNMENT_REPOSITORY", "").strip()
    known = {"badges": partial(badges, address)} if address.startswith(GITHUB) else {}
    for name, write in (WRITTEN | known).items():
        opening, closing = f"<!-- {name}: written by make render -->", f"<!-- end of {name} -->"
        if opening in text:
            before, rest = text.split(opening)
            text = f"{before}{opening}\n{write()}\n{closing}{rest.split(closing)[1]}"
    return text


def first_sentence() -> str:
    """Return what came out of both questions."""
    frozen, tuned = (
        mean_accuracy([*map(read_result, kept(name, final=True))])
        for name in ("linear_probe", "finetune")
    )
    recall = recall_by_method(kept("held_out"))
    return (
        f"Of CIFAR-10's test images a pretrained ResNet18 names **{tuned:.1%}** correctly once it "
        f"is finetuned, and **{frozen:.1%}** frozen under one linear layer; movie vectors fitted "
        "to nothing but how many people liked both films reach a recall@10 of "
        f"**{recall['embeddings, cosine']:.3f}** on hidden likes, the most popular films "
        f"{recall['popularity']:.3f}."
    )


def results() -> list[list[str]]:
    """Return a row for each headline result: question, answer, result, where, how long."""
    frozen, tuned = kept("linear_probe", final=True), kept("finetune", final=True)
    descent, floor = kept("descent", optimiser="nesterov")[:1], kept("floor", keep_vectors=True)
    held_out = kept("held_out")
    accuracies = [accuracy([*map(read_result, seeds)]) for seeds in (frozen, tuned)]
    plan = tuned[0].config["plan"]
    sizes = " and ".join(map(str, dict.fromkeys(plan["sizes"])))
    finetuning = f"the network finetuned, {sizes} px, {plan['recipe']['epochs']} epochs"
    above = f"**{descent[0]['final'] / floor[0]['value'] - 1:.3%}** above the lowest loss found"
    recall = recall_by_method(held_out)
    first, *others = (f"{name} {recall[name]:.3f}" for name in METHODS if name in recall)
    return [
        _row("1.2a", "frozen features, one linear layer", accuracies[0], frozen),
        _row("1.3a", finetuning, accuracies[1], tuned),
        _row("2.2", "gradient descent with Nesterov momentum, d = 50, 1,000 steps", above, descent),
        _row("2.7", "recall@10 of hidden likes", f"**{first}** ({'; '.join(others)})", held_out),
    ]


def results_table() -> str:
    """Return the results as a table in Markdown, and which weights they were made with."""
    table = _table(["question", "answer", "result", "computed on", "training"], results())
    used = kept("linear_probe", final=True)[0].facts["weights"]
    official = resnet.checkpoint("resnet18").sha256
    return (
        f"{table}\n\nThe ResNet18 weights behind these results have the SHA-256 "
        f"{used['sha256'][:16]}...: {used['detail'].partition(';')[0]}. Training again uses "
        f"torchvision's official checkpoint (SHA-256 {official[:16]}...)."
    )


def speed_table(measured: Run | None = None) -> str:
    """Return the benchmark's ratios as a table in Markdown, and how times grow with the data."""
    facts = (measured or kept("bench")[0]).facts
    sizes = [
        f"{size['likes']:,} likes of {size['films']:,} films take "
        f"{_quantity(1e3 * size['seconds per step'], 'ms')} a step, the process at most "
        f"{size['process at most MiB'] / 1024:.1f} GiB"
        for size in (facts["growth"][0], facts["growth"][-1])
    ]
    tuned = [*map(read_result, kept("finetune", final=True))]
    soon = ", ".join(minutes_to(share, tuned) for share in (0.95, 0.96))
    browser = facts.get("steps per second in a browser", {})
    paces = ", ".join(f"{browser[d]:.0f} at d = {d}" for d in sorted(browser, key=int))
    return (
        f"{_speed(facts, facts['rows'])} Finetuning reaches a validation accuracy of {soon}. "
        f"Growth with the data: {'; '.join(sizes)}. The time of a step grows with the power "
        f"{facts['slope']:.2f} of the likes, or {facts['slope by likes and numbers']:.2f} of likes "
        "+ 50 x films." + (f" Steps a second in a browser: {paces}." if paces else "")
    )


def speed_that_matters() -> str:
    """Return the rows of the benchmark that matter most."""
    facts = kept("bench")[0].facts
    return _speed(facts, [row for row in facts["rows"] if row["against"] in MATTER])


def records_table() -> str:
    """Return how many records there are of each experiment, where they ran and by which code."""
    now, rows = runs.rendered_with(), []
    for experiment, group in groupby(runs.read_all("*"), attrgetter("experiment")):
        facts = [run.facts for run in group]
        code = Counter(
            "not recorded" if "source" not in each
            else "as it is" if each["source"] == now.get(experiment) else "before a change"
            for each in facts
        )  # fmt: skip
        where = {str(each.get("processor", "processor not recorded")) for each in facts}
        commits = ", ".join(sorted({each["code"][:7] for each in facts}))
        since = ", ".join(f"{count} {what}" for what, count in code.items())
        rows.append([experiment, f"**{len(facts)}**", "; ".join(sorted(where)), commits, since])
    return _table(["experiment", "records", "computed on", "commits", "its code"], rows)


def badges(address: str) -> str:
    """Return a badge for each notebook and each host that opens those of a GitHub repository."""
    place = address.removeprefix(GITHUB).rstrip("/").removesuffix(".git")
    return "\n".join(
        f"[![{path.stem} at {host[8:-1]}]({host}{picture})]"
        f"({host}{way}{place}/blob/main/notebooks/{path.name})"
        for path in sorted((PROJECT / "notebooks").glob("*.ipynb"))
        for host, picture, way in HOSTS
    )


WRITTEN = {
    "records": records_table,
    "first sentence": first_sentence,
    "results": results_table,
    "speed": speed_that_matters,
    "all speed": speed_table,
}


def kept(experiment: str, **wanted: object) -> list[Run]:
    """Return the records with these values, one for each seed; their other fields at the defaults.

    Of several, those of the latest version, of most seeds and of the longest training.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs.read_all(experiment):
        if wanted.items() <= run.config.items():
            alike.setdefault(re.sub(r", 'seed': \d+", "", str(run.config)), []).append(run)
    if not alike:
        raise AssignmentError(
            f"There is no record of {experiment}; `make train` and `make keep` make it."
        )
    best = min(alike.values(), key=lambda some: (
        -some[0].config.get("version", 1), min(len(run.config) for run in some), -len(some),
        -sum(some[0].facts.get(f"{part} seconds", 0.0) for part in ("extraction", "training")),
    ))  # fmt: skip
    return sorted(best, key=lambda run: str(run.config).count("seed"))


def recall_by_method(splits: Sequence[Run]) -> dict[str, float]:
    """Return the mean recall of each method over users and splits, the best first."""
    return {name: found.recall.mean() for name, found in pool_splits(splits).items()}


def _row(question: str, answer: str, result: str, made_from: Sequence[Run]) -> list[str]:
    facts = made_from[0].facts
    threads = f"{facts['threads']} threads" if "threads" in facts else ""
    where = [facts["device"], threads or facts["machine"].split(", ")[-1]]
    where += [facts[name] for name in ("processor", "precision") if name in facts]
    seconds = np.mean([
        # A descent has its own.
        run.facts.get("training seconds", run.arrays.get("seconds", run.facts["seconds"]))
        + run.facts.get("extraction seconds", 0.0)
        for run in made_from
    ])  # fmt: skip
    return [question, answer, result, ", ".join(where), runs.duration(float(seconds))]


def _speed(facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str:
    shown = []
    for row in rows:
        here, there = (_quantity(row[key], row["unit"]) for key in ("ours", "theirs"))
        ratio = row["theirs"] / row["ours"]  # of these two; its range is over the rounds
        times = [1 / ratio if row["unit"] == "images/s" else ratio, row["lowest"], row["highest"]]
        ratio, low, high = (f"{each:,.{0 if times[0] >= 20 else 2}f}" for each in times)
        hoped = f"{row['hoped']:g}" if row.get("hoped") else "-"
        found = f"**{ratio}** ({low} to {high})"
        shown.append([row["what"], here, row["against"], there, found, hoped])
    header = ("what", "here", "the alternative", "there", "ratio (range)", "hoped for")
    return (
        f"{_table(header, shown)}\n\n"
        f"Measured on {facts['device']}, {facts['processor']}, {facts['threads']} threads, "
        f"{facts['precision']}, in {facts['seconds'] / 60:.0f} min."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _quantity(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}"
