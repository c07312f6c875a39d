"""The README's tables of results and of speed, written from the records and from nothing else."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from assignment.common import runs
from assignment.common.runs import Run
from assignment.common.settings import AssignmentError
from assignment.images import predictions


def update(readme: Path) -> None:
    """Write the tables into their places in a README."""
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(text: str) -> str:
    """Return a README's text with the tables as they should be."""
    for name, table in TABLES.items():
        opening, closing = f"<!-- {name}: written by make render -->", f"<!-- end of {name} -->"
        before, rest = text.split(opening)
        text = f"{before}{opening}\n{table()}\n{closing}{rest.split(closing)[1]}"
    return text


def results_table() -> str:
    """Return the results as a table in Markdown."""
    frozen, tuned = _kept("linear_probe", final=True), _kept("finetune", final=True)
    descent, floor = _kept("descent", optimiser="nesterov"), _kept("floor", keep_vectors=True)
    held_out = _kept("held_out")
    plan = tuned.config["plan"]
    sizes = " and ".join(map(str, dict.fromkeys(plan["sizes"])))
    finetuning = f"the network finetuned, {sizes} px, {plan['recipe']['epochs']} epochs"
    above = f"ends **{descent['final'] / floor['value'] - 1:.3%}** above the lowest loss there is"
    recall = dict(zip(held_out["methods"], held_out["recall"].mean(1), strict=True))
    recalls = (
        f"recall@10 **{recall['embeddings, cosine']:.3f}** of held-out likes "
        f"(popularity {recall['popularity']:.3f}, EASE {recall['EASE']:.3f})"
    )
    rows = [
        _row("1.2a", "frozen features, one linear layer", _accuracy(frozen), frozen),
        _row("1.3a", finetuning, _accuracy(tuned), tuned),
        _row("2.2", "gradient descent with Nesterov momentum, d = 50, 1,000 steps", above, descent),
        _row("2.7", "embeddings compared by cosine", recalls, held_out),
    ]
    table = _table(["question", "answer", "result", "computed on", "training"], rows)
    used = frozen.facts["weights"]
    return f"{table}\n\nResNet18's weights: {used['detail']} (SHA-256 {used['sha256'][:16]}...)."


def speed_table(measured: Run | None = None) -> str:
    """Return the benchmark's ratios as a table in Markdown, and on what they were measured."""
    facts = (measured or _kept("bench")).facts
    rows = []
    for row in facts["rows"]:
        here, there = (_quantity(row[key], row["unit"]) for key in ("ours", "theirs"))
        digits = 0 if row["ratio"] >= 20 else 2
        ratio, low, high = (f"{row[key]:.{digits}f}" for key in ("ratio", "lowest", "highest"))
        rows.append([row["what"], here, row["against"], there, f"**{ratio}** ({low} to {high})"])
    table = _table(["what", "here", "the alternative", "there", "ratio (range)"], rows)
    sizes = [
        f"{size['likes']:,} likes of {size['films']:,} films take "
        f"{_quantity(1e3 * size['seconds per step'], 'ms')} a step, the process at most "
        f"{size['process at most MiB'] / 1024:.1f} GiB"
        for size in (facts["growth"][0], facts["growth"][-1])
    ]
    return (
        f"{table}\n\nGrowth with the data: {'; '.join(sizes)}. The time of a step grows with the "
        f"power {facts['slope']:.2f} of the likes, or {facts['slope by likes and numbers']:.2f} of "
        f"likes + 50 x films.\n\nMeasured on {facts['device']}, {facts['processor']}, "
        f"{facts['threads']} threads, {facts['precision']}, in {facts['seconds'] / 60:.0f} min."
    )


TABLES = {"results": results_table, "speed": speed_table}


def _accuracy(run: Run) -> str:
    share = run.facts["test"]["accuracy"]
    low, high = predictions.wilson_interval(share, 10_000)
    return f"**{share:.2%}** of the test images (95 % interval {low:.2%} to {high:.2%})"


def _row(question: str, answer: str, result: str, run: Run) -> list[str]:
    facts = run.facts
    where = f"{facts['device']}, {facts['machine'].split(', ')[-1]}"
    whole = run["seconds"] if "seconds" in run.arrays else facts["seconds"]  # a descent has its own
    seconds = facts.get("training seconds", whole) + facts.get("extraction seconds", 0.0)
    return [question, answer, result, where, runs.duration(seconds)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _quantity(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _kept(experiment: str, **wanted: object) -> Run:
    """Return the record with these values, its other fields at their defaults as far as they go."""
    found = [run for run in runs.read_all(experiment) if wanted.items() <= run.config.items()]
    if not found:
        raise AssignmentError(
            f"There is no record of {experiment}; `make train` and `make keep` make it."
        )
    return min(found, key=lambda run: (len(run.config), -run.facts.get("trainable parameters", 0)))
