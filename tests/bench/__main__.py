"""Speed, as ratios against named alternatives in the same run: what ``make bench`` runs.

Everything is repeated and interleaved. The table goes into the record ``bench`` in data/records/,
from which ``make render`` writes the README's, and the growth with the data into a figure.
``python -m tests.bench --quick`` measures less of everything and keeps nothing.
"""

import argparse
import os
import time

import numpy as np

from assignment.common import figures, runs, settings
from assignment.common.runs import Run
from assignment.common.settings import AssignmentError, report
from assignment.publish import readme
from tests.bench import embedding, growth, images, live, start
from tests.bench.table import in_a_child


def measure(quick: bool) -> Run:
    """Run all benchmarks, and say which one runs."""
    began, rounds = time.monotonic(), 1 if quick else 3
    report("Measuring the embeddings ...")
    comparisons = embedding.comparisons(2 if quick else 4)
    report("Measuring the start ...")
    comparisons += start.comparisons(1 if quick else 2)
    report("Measuring images ...")
    comparisons += images.comparisons(rounds, 1 if quick else 3)
    report("Measuring how the embeddings grow with the data ...")
    sizes = [in_a_child("growth", f"measure({n})") for n in growth.SCALES[: 2 if quick else 4]]
    report("Measuring the page of the films in a browser ...")
    in_browser = live.steps_per_second()
    arrays = {}
    for number, one in enumerate(comparisons):
        arrays[f"{number} ours"] = np.array(one.ours)
        arrays[f"{number} theirs"] = np.array(one.theirs)
    facts = {
        **runs.describe_machine(time.monotonic() - began),
        "precision": str(settings.precision(settings.device())).removeprefix("torch."),
        "rows": [one.row() for one in comparisons],
        "growth": sizes,
        "steps per second in a browser": {f"{d}": speed for d, speed in in_browser.items()},
        "slope": growth.slope(sizes),
        "slope by likes and numbers": growth.slope(sizes, embedding.DIM),
    }
    return Run("bench", {"rounds": rounds, "quick": quick}, arrays, facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, keeps nothing")
    try:
        run = measure(parser.parse_args().quick)
    except AssignmentError as error:
        raise SystemExit(str(error)) from None
    report(f"\n{readme.speed_table(run)}")
    if not run.config["quick"]:
        run = runs.write_run(run, runs.RECORDS)
        os.environ["ASSIGNMENT_FIGURES"] = str(settings.PROJECT / "figures")
        figures.save_figure(growth.figure(run.facts["growth"]), "bench_growth", [run])
        report(f"\nKept as the record {run.name}")
