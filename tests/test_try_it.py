"""Every line that a notebook invites its reader to change is changed, and does what is promised.

One kernel per notebook and mode takes each in turn: the first cell, the section with the change,
and a check of the promise. What would train for long runs on the sample.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from assignment.common.notebooks import execute
from assignment.common.settings import Mode
from tests.conftest import DATA
from tests.test_notebooks import code_by_section, each_notebook


@dataclass(frozen=True)
class Try:
    """A change in a section (or, for it, in the first cell), and what must then hold."""

    section: str
    old: str
    new: str
    holds: str  # an expression on the variables of the section
    mode: Mode = Mode.RECORDED


FILMS = 'asked = ["Apollo 13", "Toy Story", "Home Alone"]'
OTHERS = 'asked = ["The Matrix", "Toy Story", "Clueless"]'
TWO = "the last two stages and the head"
TRIES = {
    "01_cifar10_transfer": [
        Try("1.1", "max_shift=4", "max_shift=12",
            # Of a shift by more than four pixels the whole border is a reflection.
            "(augmented(im := data.train.images[:500]) != pixels.augment(pixels.to_float(im), "
            "torch.Generator().manual_seed(0), max_shift=4)).any()"),
        Try("1.2a", "for decay in (0.002,", "for decay in (0.0, 0.002,",
            "swept['0'][0].history[-1, 0] < swept['0.032'][0].history[-1, 0]", Mode.SAMPLE),
        Try("1.2b", 'data.test, linear.predictions["test"]',
            'data.validation, linear.predictions["validation"]', "split is data.validation"),
        Try("1.3a", "tuned = [fine", "plan, seeds = experiments.IMPATIENT, (0,)\ntuned = [fine",
            "len(tuned) == 1 and tuned[0].run.config['plan']['sizes'] == [48]", Mode.SAMPLE),
        Try("1.3b", "seeds[0]", "seeds[1]",
            "tuned.run.config['plan']['recipe']['seed'] == seeds[1]"),
        Try("1.3c", "most_confident(after,", "most_confident(before,",
            "before.log_confidence[ten['lost']].diff().max() <= 0"),
        Try("1.4", '    "from', f'    "{TWO}": replace(equal, trainable="layer3"),\n    "from',
            "(learns := lambda name: adapted[f'{name}, 0.01'][0].facts['trainable parameters'])"
            f"('the last stage and the head') < learns('{TWO}') < learns('from scratch')",
            Mode.SAMPLE),
        Try("1.5", "(32, 64, 128, 224)", "(32, 40, 64, 128, 224)",
            "shares.index.tolist() == [32, 40, 64, 128, 224] and shares.notna().all(axis=None)",
            Mode.SAMPLE),
        Try("1.6", "descending=True)[:10]", "descending=True)[:5]", "len(suspects) == 5"),
    ],
    "02_movie_embeddings": [
        Try("2.1", "for threshold in (3.5, 4.0, 4.5)", "for threshold in (3.5, 4.0, 4.5, 5.0)",
            "rows[-1]['likes'] < rows[1]['likes'] / 3"),
        Try("2.1", FILMS, OTHERS, "'Clueless (1995)' in rows[0]"),
        Try("2.2", "(1.1, 0.9,", "(1.1, 0.95, 0.9,",
            "np.argmax((losses := lambda share: by_rate[f'{share} x predicted']['losses'])(0.95) < "
            "1.05 * floor['value']) < np.argmax(losses(0.9) < 1.05 * floor['value'])"),
        Try("2.3", '"Adagrad":', '"fast Adam": ("adam", 0.3), "Adagrad":',
            "runs['fast Adam']['losses'][30] < runs['Adam']['losses'][30] and "
            "runs['fast Adam']['losses'][-300:].max() > runs['Adam']['losses'][-300:].max()"),
        Try("2.4", "perplexity=30", "perplexity=5",
            "(close := lambda p: (d := np.sort(np.linalg.norm(p[:500, None] - p, axis=2)))[:, 5]"
            ".mean() / d[:, 100].mean())(places) < close(study.film_map(30, 5)['places'])"),
        Try("2.5", "dims = (10,", "dims = (400, 10,",
            "(left := by_dim['floor'].str.replace(',', '').astype(float))[0] < left[1]",
            Mode.SAMPLE),
        Try("2.6", "default_rng(0)\nrows", "default_rng(1)\nrows",
            "{short_title(data.movies['title'][film]) for film in np.random.default_rng(0).choice("
            "rated[rated < 10].index, 5, replace=False)} != {row['film'] for row in rows[:5]}"),
        Try("2.7", "study.held_out(seed=seed)", "study.held_out(seed=seed, share=0.5)",
            "splits[0].config['share'] == 0.5", Mode.SAMPLE),
    ],
}  # fmt: skip


@each_notebook
def test_every_invitation_has_its_row(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    section, invited = "", []
    for cell in cells:
        section = next(iter(re.findall(r"^## (\S+)", cell.source, re.MULTILINE)), section)
        invited += [section] * cell.source.count("**Try it.**")
    assert sorted({each.section for each in TRIES[path.stem]}) == invited
    code = code_by_section(path)
    for each in TRIES[path.stem]:
        assert each.old in code[each.section], each


@pytest.mark.long
@pytest.mark.parametrize("mode", [
    pytest.param(Mode.RECORDED, marks=pytest.mark.needs("real_data", "label_lists")), Mode.SAMPLE
])  # fmt: skip
@each_notebook
def test_what_a_reader_is_invited_to_change_does_what_is_promised(
    path: Path, mode: Mode, data_folder: Path
) -> None:
    if mode is Mode.RECORDED:
        for part in DATA.iterdir():  # all but the runs, which are the reader's own
            if part.name not in ("runs", "records"):
                (data_folder / part.name).symlink_to(part)
    notebook, code = nbformat.v4.new_notebook(), code_by_section(path)
    for each in TRIES[path.stem]:
        if each.mode is mode:
            changed = code[each.section].replace(each.old, each.new)
            check = f"assert {each.holds}, {each.new!r}"
            notebook.cells += map(nbformat.v4.new_code_cell, (changed, check))
    target = data_folder / path.name
    nbformat.write(notebook, target)
    execute(target, target, {"ASSIGNMENT_MODE": mode, "ASSIGNMENT_DATA": str(data_folder)})
