"""The script in the package's README prints ten films; each of its results is told in a line."""

import re

import pytest

from assignment.common import settings
from assignment.movies import embedding, evaluation, movielens, recommend

README = (settings.PROJECT / "src" / "assignment" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("sample_mode")
def test_five_lines_print_ten_films(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (script,) = (block for block in blocks if "movielens" in block)
    assert len([line for line in script.splitlines() if line]) == 5
    exec(script, {})
    films = capsys.readouterr().out.splitlines()
    assert len(films) == 10
    genres = movielens.load().movies.set_index("title")["genres"][films]
    assert genres.str.startswith("Animation").mean() > 0.5


@pytest.mark.usefixtures("sample_mode")
def test_every_result_is_one_line_and_a_small_table() -> None:
    data = movielens.load()
    likes = movielens.build_likes(data)
    found = embedding.fit(likes, dim=5, iterations=20)
    train, held_out = evaluation.hold_out(likes)
    judged = evaluation.evaluate(train.matrix.toarray() * 1.0, train, held_out)
    near = recommend.by_cosine(data, likes, found.vectors)
    for result in (data, likes, found, embedding.find_floor(likes, 5), judged, near):
        line = repr(result)
        assert line.startswith(f"{type(result).__name__} [SAMPLE")
        assert len(line.splitlines()) == 1
        assert len(line) < 200
        markup = result._repr_html_()
        assert "[SAMPLE" in markup
        assert len(markup) < 1500
