"""Runs descend, repeat and end early where they must; the floor is the lowest cost."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from assignment.common.settings import AssignmentError
from assignment.movies import embedding, movielens
from assignment.movies.cost import build_cost, literal_cost
from assignment.movies.movielens import Likes
from tests.movies.test_cost import dense_colikes, likes_of, random_likes


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")


RATES = {"sgd": 1e-3, "momentum": 3e-4, "nesterov": 3e-4, "adagrad": 0.5, "lbfgs": 1.0}


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_every_optimiser_descends_and_stays_above_the_floor(optimiser: str) -> None:
    likes, lr = random_likes(40, 60), RATES.get(optimiser, 0.05)
    lowest = embedding.find_floor(likes, 4).value
    run = embedding.fit(likes, 4, optimiser, lr, 300)
    assert run.losses.shape == (301,)
    assert run.vectors.dtype == np.float32
    assert run.losses[-1] == pytest.approx(run.final, rel=1e-5)
    assert lowest * (1 - 1e-9) <= run.final < 1.05 * lowest
    assert run.losses.min() >= lowest * (1 - 1e-5)


SHAPES = [(25, 14, 0.4), (300, 100, 0.05), (10, 5, 0.9), (5, 200, 0.3), (500, 30, 0.5)]


@pytest.mark.parametrize("optimiser", embedding.SHARES)
@pytest.mark.parametrize(("users", "films", "share"), SHAPES)
def test_the_default_step_converges(optimiser: str, users: int, films: int, share: float) -> None:
    likes = random_likes(users, films, share)
    for dim in (1, 4):
        run, lowest = embedding.fit(likes, dim, optimiser), embedding.find_floor(likes, dim).value
        assert run.final - lowest < 1e-3 * build_cost(likes).constant


@pytest.mark.needs("real_data")
def test_the_defaults_end_close_to_the_floor() -> None:
    likes = movielens.build_likes(movielens.load())
    run, floor = embedding.fit(likes), embedding.find_floor(likes)
    assert run.vectors.shape == floor.vectors.shape == (6_298, 50)
    assert run.final < 1.0005 * floor.value
    assert repr(run).startswith("Embedding: films 6,298; dimensions 50; steps 1,000; final loss")
    assert repr(floor).startswith("Floor: films 6,298; dimensions 50; lowest loss 1,687,1")
    assert "<td>6,298</td>" in run._repr_html_()


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_a_run_depends_on_its_seed_alone(optimiser: str) -> None:
    state = torch.get_rng_state()
    runs = [embedding.fit(random_likes(20, 30), 3, optimiser, None, 20, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].vectors, runs[1].vectors)
    assert not np.array_equal(runs[0].vectors, runs[2].vectors)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("optimiser", [name for name in embedding.OPTIMISERS if name != "lbfgs"])
@pytest.mark.parametrize(("lr", "scale"), [(10.0, 0.1), (1e30, 0.1), (1e-5, 1e30)])
def test_a_diverging_run_ends_early(optimiser: str, lr: float, scale: float) -> None:
    run = embedding.fit(random_likes(20, 30), 3, optimiser, lr, 200, scale=scale)
    assert run.diverged
    assert (scale < 1) <= len(run.losses) < 50  # the first loss may overflow already
    assert np.isfinite(run.losses).all()
    assert run.final == math.inf
    assert "final loss inf;" in repr(run)


def test_snapshots_are_the_vectors_after_so_many_steps_of_gradient_descent() -> None:
    likes = random_likes(20, 30)
    run = embedding.fit(likes, 3, "sgd", 1e-3, 12, snapshots=(0, 1, 7, 12, 13))
    assert tuple(run.snapshots) == (0, 1, 7, 12)
    vectors = torch.from_numpy(run.snapshots[0]).double()
    for step in range(13):
        cost, gradient = build_cost(likes).cost_and_gradient(vectors)
        assert run.losses[step] == pytest.approx(cost.item(), rel=1e-5)
        if step in run.snapshots:
            np.testing.assert_allclose(run.snapshots[step], vectors, rtol=1e-4, atol=1e-6)
        vectors = vectors - 1e-3 * gradient
    np.testing.assert_array_equal(run.snapshots[12], run.vectors)


NO_COUNTS: list[Any] = [0, -1, 2.5, "ten", True, None]
NO_SIZES: list[Any] = [0.0, -1, math.nan, math.inf, "ten", True]
WRONG = [*product(["dim", "iterations"], NO_COUNTS), *product(["lr", "scale"], NO_SIZES)]


@pytest.mark.parametrize(("name", "value"), [*WRONG, ("scale", None)])
def test_a_wrong_argument_gets_a_sentence(name: str, value: Any) -> None:
    kind = "finite" if name in {"lr", "scale"} else "whole"
    for function in (embedding.fit, embedding.find_floor) if name == "dim" else (embedding.fit,):
        with pytest.raises(AssignmentError, match=f"{name} is {value!r}; expected a {kind} number"):
            function(random_likes(5, 8), **{name: value})
    with pytest.raises(AssignmentError, match="optimiser is 'adamw'; choose one of sgd, momentum"):
        embedding.fit(random_likes(5, 8), optimiser="adamw")
    for search in (embedding.find_floor, embedding.largest_stable_step):
        with pytest.raises(AssignmentError, match="No user likes two films"):
            search(likes_of(np.eye(9)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("mps", "cuda")]
)
def test_another_device_ends_where_the_cpu_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = embedding.fit(random_likes(40, 60), 4, "sgd", 1e-3, 50)
    monkeypatch.setenv("ASSIGNMENT_DEVICE", name)
    there = embedding.fit(random_likes(40, 60), 4, "sgd", 1e-3, 50)
    assert there.final == pytest.approx(here.final, rel=1e-3)


def lowest_by_scipy(likes: Likes, dim: int) -> float:
    """The literal cost over dense X, minimised by another implementation from many starts."""
    X = dense_colikes(likes)

    def cost_and_gradient(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        vectors = torch.from_numpy(numbers.reshape(len(X), dim)).requires_grad_()
        literal = literal_cost(vectors, X)
        (gradient,) = torch.autograd.grad(literal, vectors)
        return literal.item(), gradient.numpy().ravel()

    starts = np.random.default_rng(0).normal(size=(8, len(X) * dim))
    options = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": 1000, "ftol": 1e-13}}
    return min(float(minimize(cost_and_gradient, start, **options).fun) for start in starts)


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_floor_is_what_scipy_finds_on_the_literal_cost(dim: int, seed: int) -> None:
    likes = random_likes(25, 14, 0.4, seed)
    found = embedding.find_floor(likes, dim)
    assert found.value == pytest.approx(lowest_by_scipy(likes, dim), rel=1e-6)
    reached = build_cost(likes)(torch.from_numpy(found.vectors)).item()
    assert reached == pytest.approx(found.value, rel=1e-12)
    of_matrix = embedding.find_floor_of(dense_colikes(likes).numpy(), dim)
    assert of_matrix.value == pytest.approx(found.value, rel=1e-6)
    first, second = (each.vectors @ each.vectors.T for each in (of_matrix, found))
    np.testing.assert_allclose(first, second, atol=0.01)


@pytest.mark.needs("real_data")
def test_the_real_floor_is_reached_from_a_random_start_too() -> None:
    likes = movielens.build_likes(movielens.load())
    lowest, found = (embedding.find_floor(likes, 10, seed) for seed in (None, 0))
    assert found.value == pytest.approx(lowest.value, rel=1e-9)
    fast, vectors = build_cost(likes), torch.from_numpy(found.vectors)
    assert abs(fast(vectors.float()) - fast(vectors)) < 1e-6 * fast.constant, "good in float32, too"


@pytest.mark.parametrize("dim", [1, 6, 9, 12])
def test_the_floor_takes_any_dimension_and_its_columns_are_orthogonal(dim: int) -> None:
    likes = random_likes(6, 9, 0.5)
    found = embedding.find_floor(likes, dim)
    assert found.vectors.shape == (9, dim)
    assert (np.diff(np.linalg.norm(found.vectors, axis=0)) <= 1e-9).all()
    gram = found.vectors.T @ found.vectors
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8 * gram.max())
    if dim >= 6:  # A'A has rank 6, and X is A'A off the diagonal
        assert abs(found.value) < 1e-6 * build_cost(likes).constant


def test_leading_eigenpairs_are_those_of_the_dense_matrix() -> None:
    likes = random_likes(30, 50)
    X = dense_colikes(likes).numpy()
    expected = np.linalg.eigvalsh(X)[::-1]
    for how_many in (1, 5, 40):
        values, vectors = embedding.leading_eigenpairs(likes, how_many)
        np.testing.assert_allclose(values, expected[:how_many], atol=1e-9 * expected[0])
        np.testing.assert_allclose(X @ vectors, vectors * values, atol=1e-7 * expected[0])


@pytest.mark.usefixtures("sample_mode")
def test_descent_settles_below_the_predicted_step_and_not_above_it() -> None:
    likes = movielens.build_likes(movielens.load())
    lowest = embedding.find_floor(likes, 10).value
    step = embedding.largest_stable_step(likes)
    below, above = (embedding.fit(likes, 10, "sgd", m * step, 1000) for m in (0.9, 1.1))
    assert below.final < 1.005 * lowest
    assert (np.diff(below.losses[-100:]) <= 5e-5 * lowest).all()
    assert above.diverged or above.losses[-100:].min() > 1.1 * lowest
