"""How much faster, and in how much less memory, the fast form is than two literal ones.

Run as ``python tests/bench_embedding.py`` (needs the real data). All are measured in one run on
this machine, one step being cost and gradient at d = 50 in float32 over all liked films:

(a) the literal dense cost through autograd, as the notebook prints it;
(b) a factor matrix of films by films, as seen in other solutions, on fewer films (named below).
    Its step costs in proportion to films^3, and is extrapolated to all films by that power.

Ratios are taken within each round, so that a busy machine slows both sides of one alike.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from assignment import movielens, objective
from assignment.movielens import Likes

DIM = 50
FEWER = 1500
FORMS = ("fast", "literal", "square")
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def report(line: object) -> None:
    sys.stdout.write(f"{line}\n")


def build(form: str, likes: Likes) -> tuple[Callable[[], object], int]:
    """Prepare one step of a form; return it, and over how many films it goes."""
    films = min(FEWER, len(likes.movies)) if form == "square" else len(likes.movies)
    vectors = torch.nn.Parameter(0.1 * torch.randn(films, films if form == "square" else DIM))
    cost: Callable[[Tensor], Tensor]
    if form == "fast":
        cost = objective.of(likes)
    else:
        most_liked = (-likes.count).argsort(kind="stable")[:films]
        table = torch.from_numpy(likes.matrix.toarray()[:, most_liked]).float()
        cost = partial(objective.literal_cost, colikes=(table.T @ table).fill_diagonal_(0))

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()

    return step, films


def seconds(step: Callable[[], object], repeats: int) -> float:
    """Time a step: the median over repeats, which one interruption does not move."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def peak_mebibytes() -> float:
    """Read this process's peak memory (since it was last forgotten, where Linux can do that)."""
    if STATUS.is_file():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def growth(form: str) -> float:
    """Measure what a form, its data included, adds to the peak memory of this process."""
    likes = movielens.likes(movielens.load())
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()  # the libraries' own buffers
    if STATUS.is_file():
        FORGET.write_text("5")
    before = peak_mebibytes()
    step, _ = build(form, likes)
    for _ in range(3):
        step()
    return peak_mebibytes() - before


def growth_in_a_child(form: str) -> float:
    command = [sys.executable, __file__, "--growth", form]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def compare(rounds: int) -> None:
    likes = movielens.likes(movielens.load())
    films = len(likes.movies)
    steps = {form: build(form, likes) for form in FORMS}
    scale = (films / steps["square"][1]) ** 3
    repeats = {"fast": 200, "literal": 1, "square": 1}
    for step, _ in steps.values():
        step()
    times = [{f: seconds(steps[f][0], repeats[f]) for f in FORMS} for _ in range(rounds)]
    report(f"one step at d = {DIM}, {films} films, {torch.get_num_threads()} threads, float32")
    for form in FORMS:
        over = f"{steps[form][1]} films"
        best, middle = (1e3 * of(t[form] for t in times) for of in (min, statistics.median))
        report(f"  {form:8s} {over:>11s}: {best:9.3f} ms at best, {middle:9.3f} ms median")
    for form, factor, note in (
        ("literal", 1.0, "measured"),
        ("square", scale, f"extrapolated to {films} films by their cube, a factor of {scale:.0f}"),
    ):
        ratios = [factor * t[form] / t["fast"] for t in times]
        line = f"min {min(ratios):.0f}, median {statistics.median(ratios):.0f}"
        report(f"{form} / fast, over {rounds} rounds: {line} ({note})")
    grown = {form: growth_in_a_child(form) for form in FORMS}
    for form in FORMS:
        report(f"peak memory grows by {grown[form]:7.1f} MiB: {form}, {steps[form][1]} films")
    report(f"fast / literal, growth of peak memory: {grown['fast'] / grown['literal']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--growth", choices=FORMS, help="only this: MiB that one form adds")
    chosen = parser.parse_args()
    if chosen.growth:
        report(growth(chosen.growth))
    else:
        compare(chosen.rounds)
