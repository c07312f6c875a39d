"""The README's table of results, written from the records and from nothing else."""

import re
from pathlib import Path

from assignment import predictions, records
from assignment.records import Record
from assignment.runtime import AssignmentError

OPENING, CLOSING = "<!-- results: written by make render -->", "<!-- end of results -->"
TEST_IMAGES = 10_000


def table() -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| question | answer | result | computed on | training |",
        "| --- | --- | --- | --- | --- |",
        _images("1.2a", "frozen features, one linear layer", _kept("cifar_frozen")),
        _images("1.3a", _plan(_kept("cifar_finetuned")), _kept("cifar_finetuned")),
        _films("2.2", _kept("movies_optimiser_1_nesterov"), _kept("movies_floor")),
        _judged("2.7", _kept("movies_held_out")),
    ]
    weights = _kept("cifar_frozen").facts["weights"]
    lines += ["", f"ResNet18's weights: {weights['detail']} (SHA-256 {weights['sha256'][:16]}...)."]
    return "\n".join(lines)


def update(readme: Path) -> None:
    """Write the table into its place in a README."""
    text = readme.read_text(encoding="utf-8")
    readme.write_text(inserted(text), encoding="utf-8")


def inserted(text: str) -> str:
    """Return a README's text with the table as it should be."""
    place = re.compile(f"{re.escape(OPENING)}.*{re.escape(CLOSING)}", re.DOTALL)
    return place.sub(lambda _: f"{OPENING}\n{table()}\n{CLOSING}", text)


def _images(question: str, answer: str, record: Record) -> str:
    share = record.facts["test"]["accuracy"]
    low, high = predictions.wilson(share, TEST_IMAGES)
    result = f"**{share:.2%}** of the test images (95 % interval {low:.2%} to {high:.2%})"
    seconds = record.facts["training seconds"] + record.facts.get("extraction seconds", 0.0)
    return _row(question, answer, result, record, seconds)


def _plan(record: Record) -> str:
    plan = record.config["plan"]
    sizes = " and ".join(map(str, dict.fromkeys(plan["sizes"])))
    return f"the network finetuned, {sizes} px, {plan['recipe']['epochs']} epochs"


def _films(question: str, record: Record, floor: Record) -> str:
    above = record.arrays["final"].item() / floor.arrays["value"].item() - 1
    answer = "gradient descent with Nesterov momentum, d = 50, 1,000 steps"
    result = f"ends **{above:.3%}** above the lowest loss there is"
    return _row(question, answer, result, record, record.arrays["seconds"].item())


def _judged(question: str, record: Record) -> str:
    recall = dict(zip(record.arrays["methods"], record.arrays["recall"].mean(1), strict=True))
    cosine, ease = recall["embeddings, cosine"], recall["EASE"]
    result = f"recall@10 **{cosine:.3f}** of held-out likes (popularity {recall['popularity']:.3f}"
    answer = "embeddings compared by cosine"
    return _row(question, answer, f"{result}, EASE {ease:.3f})", record, record.facts["seconds"])


def _row(question: str, answer: str, result: str, record: Record, seconds: float) -> str:
    where = f"{record.facts['device']}, {record.facts['machine'].split(', ')[-1]}"
    length = f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"
    return f"| {question} | {answer} | {result} | {where} | {length} |"


def _kept(name: str) -> Record:
    record = records.load(records.KEPT, name)
    if record is None:
        raise AssignmentError(f"There is no record {name}; `make train` and `make keep` make it.")
    return record
