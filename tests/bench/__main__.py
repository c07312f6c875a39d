"""Speed, as ratios against named alternatives in the same run: what ``make bench`` runs.

Everything is repeated and interleaved. The table goes into the record ``bench`` in data/records/,
with the machine's description, and the growth with the data into a figure; ``make render`` then
writes the README's table. ``python -m tests.bench --quick`` measures less of everything and keeps
nothing. Needs the real data.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from assignment.common import figures, files, runs, settings
from assignment.common.runs import Record
from assignment.common.settings import AssignmentError
from assignment.publish import readme
from tests.bench import embedding as bench_embedding
from tests.bench import growth as bench_growth
from tests.bench import images as bench_images
from tests.bench import start as bench_start
from tests.bench.table import Comparison, report


def processor() -> str:
    """Name the processor, where the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def measured(quick: bool) -> Record:
    """Run all benchmarks, and say which one runs."""
    began = time.monotonic()
    rounds = 1 if quick else 3
    parts: dict[str, Callable[[], list[Comparison]]] = {
        "the embeddings": lambda: bench_embedding.comparisons(2 if quick else 4),
        "starting": lambda: bench_start.comparisons(1 if quick else 2),
        "images": lambda: bench_images.comparisons(rounds, 1 if quick else 3),
    }
    made: list[Comparison] = []
    for name, part in parts.items():
        report(f"Measuring {name} ...")
        made += part()
    report("Measuring how the embeddings grow with the data ...")
    growth = bench_growth.sizes(bench_growth.SCALES[:2] if quick else bench_growth.SCALES)
    arrays = {
        f"{n} {who}": np.array(numbers)
        for n, one in enumerate(made)
        for who, numbers in (("ours", one.ours), ("theirs", one.theirs))
    }
    on = settings.device()
    facts = {
        **runs.describe_run(time.monotonic() - began),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "precision": str(settings.precision(on)).removeprefix("torch."),
        "rows": [one.row() for one in made],
        "growth": growth,
        "slope": bench_growth.slope(growth, bench_growth.likes),
        "slope by likes and numbers": bench_growth.slope(growth, bench_growth.likes_and_numbers),
    }
    return Record("bench", {"rounds": rounds, "quick": quick}, arrays, facts)


def main() -> None:
    """Measure, print the table, and keep it unless it was made in a hurry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, keeps nothing")
    quick = parser.parse_args().quick
    record = measured(quick)
    report(f"\n{readme.speed_table(record)}")
    if not quick:
        record = runs.write_record(record, runs.RECORDS)
        os.environ["ASSIGNMENT_FIGURES"] = str(settings.PROJECT / "figures")
        figures.save_figure(bench_growth.figure(record.facts["growth"]), "bench_growth", [record])
        report(f"\nKept in {files.display_path(runs.RECORDS / 'bench.json')}")


if __name__ == "__main__":
    try:
        main()
    except AssignmentError as error:
        raise SystemExit(str(error)) from None
