"""The README's tables of results and of speed, written from the records and from nothing else."""

from pathlib import Path

from assignment.common import runs
from assignment.common.runs import Record
from assignment.common.settings import AssignmentError
from assignment.images import predictions

TEST_IMAGES = 10_000


def results_table() -> str:
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
    """Write the tables into their places in a README."""
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_tables(text), encoding="utf-8")


def with_tables(text: str) -> str:
    """Return a README's text with the tables as they should be."""
    for name, written in PLACES.items():
        opening, closing = marks(name)
        if opening in text:
            before, rest = text.split(opening)
            text = f"{before}{opening}\n{written()}\n{closing}{rest.split(closing)[1]}"
    return text


def marks(name: str) -> tuple[str, str]:
    """Return what stands before and behind a table in the README."""
    return f"<!-- {name}: written by make render -->", f"<!-- end of {name} -->"


def speed_table(measured: Record | None = None) -> str:
    """Return the benchmark's ratios as a table in Markdown, and on what they were measured."""
    facts = (measured or _kept("bench")).facts
    lines = [
        "| what | here | the alternative | there | ratio (range) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in facts["rows"]:
        here, there = (_quantity(row[key], row["unit"]) for key in ("ours", "theirs"))
        ratio = f"**{row['ratio']:.2f}** ({row['lowest']:.2f} to {row['highest']:.2f})"
        if row["ratio"] >= 20:
            ratio = f"**{row['ratio']:.0f}** ({row['lowest']:.0f} to {row['highest']:.0f})"
        lines.append(f"| {row['what']} | {here} | {row['against']} | {there} | {ratio} |")
    sizes = [
        f"{size['likes']:,} likes of {size['films']:,} films take "
        f"{_quantity(1e3 * size['seconds per step'], 'ms')} a step, the process at most "
        f"{size['process at most MiB'] / 1024:.1f} GiB"
        for size in (facts["growth"][0], facts["growth"][-1])
    ]
    where = f"{facts['device']}, {facts['processor']}, {facts['threads']} threads"
    lines += [
        "",
        f"Growth with the data: {'; '.join(sizes)}. The time of a step grows with the power "
        f"{facts['slope']:.2f} of the likes, or {facts['slope by likes and numbers']:.2f} of likes "
        "+ 50 x films.",
    ]
    lines += ["", f"Measured on {where}, {facts['precision']}, in {facts['seconds'] / 60:.0f} min."]
    return "\n".join(lines)


def _quantity(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _images(question: str, answer: str, record: Record) -> str:
    share = record.facts["test"]["accuracy"]
    low, high = predictions.wilson_interval(share, TEST_IMAGES)
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


PLACES = {"results": results_table, "speed": speed_table}


def _kept(name: str) -> Record:
    record = runs.read_record(runs.RECORDS, name)
    if record is None:
        raise AssignmentError(f"There is no record {name}; `make train` and `make keep` make it.")
    return record
