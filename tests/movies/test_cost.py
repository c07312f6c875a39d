"""The fast cost is the literal one, and no step makes a matrix of films by films."""

from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from assignment.movies import cost, embedding, movielens
from assignment.movies.cost import FastCost, build_cost, literal_cost
from assignment.movies.movielens import Likes
from tests.conftest import Recorder


def likes_of(table: Any) -> Likes:
    matrix = sparse.csr_array(np.array(table, dtype=np.int64))
    users, movies = matrix.shape
    return Likes(matrix, np.arange(users), np.arange(movies), 4.0)


def random_likes(users: int, movies: int, density: float = 0.2, seed: int = 0) -> Likes:
    return likes_of(np.random.default_rng(seed).random((users, movies)) < density)


def dense_colikes(likes: Likes) -> Tensor:
    return torch.from_numpy(movielens.count_colikes(likes).toarray()).double()


def cost_as_on(device: str, likes: Likes) -> FastCost:
    """The cost as it is built on a device, but in main memory; the constant in several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "to", lambda self, *_: self)
        patch.setattr(cost, "BLOCK", 4)
        return build_cost(likes, device)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Likes, Tensor]:
    """Likes and vectors, with users of one film, films of nobody, repeats, d = 1."""
    users, movies, dim = (draw(st.integers(1, most)) for most in (7, 20, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = generator.random((users, movies)) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    table[0] &= np.arange(movies) == draw(st.integers(0, movies))
    vectors = generator.normal(size=(movies, dim)) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    vectors[-1] = vectors[0]
    return likes_of(table), torch.from_numpy(vectors).requires_grad_()


@hypothesis.settings(deadline=None)
@hypothesis.given(cases())
def test_cost_and_gradient_are_the_literal_ones(case: tuple[Likes, Tensor]) -> None:
    likes, vectors = case
    X = dense_colikes(likes)
    literal = literal_cost(vectors, X)
    (literal_gradient,) = torch.autograd.grad(literal, vectors)
    fast = cost_as_on("cpu", likes)(vectors)
    (gradient,) = torch.autograd.grad(3 * fast, vectors)
    # The fast form adds and takes away the pairs i = j, so they count for what rounding may do.
    sizes = vectors.abs() @ vectors.abs().T + X + torch.diag(torch.from_numpy(likes.count))
    assert abs(fast - literal) <= 1e-12 * sizes.square().sum()
    assert (gradient / 3 - literal_gradient).abs().max() <= 1e-12 * (sizes @ vectors.abs()).sum()


def test_the_literal_cost_is_its_double_sum() -> None:
    V, X = torch.randn(5, 2), dense_colikes(random_likes(9, 5, 0.5))
    pairs = [(V[i] @ V[j] - X[i, j]) ** 2 for i in range(5) for j in range(5) if i != j]
    torch.testing.assert_close(literal_cost(V.double(), X), sum(pairs), check_dtype=False)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_float32_is_close_to_float64(device: str) -> None:
    likes, vectors = random_likes(40, 90), embedding.random_start(90, 7, scale=1)
    exact, slope = build_cost(likes).cost_and_gradient(vectors.double())
    found, gradient = cost_as_on(device, likes).cost_and_gradient(vectors)
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)
    assert (gradient - slope).abs().max() <= 1e-5 * slope.abs().max()


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_no_tensor_of_a_descent_is_films_by_films(optimiser: str, device: str) -> None:
    fast = cost_as_on(device, random_likes(30, 400, 0.05))
    vectors = embedding.random_start(400, 5).requires_grad_()
    steps = embedding.OPTIMISERS[optimiser]([vectors])
    with Recorder() as recorder:
        list(embedding.descend(fast, vectors, steps, 3))
    assert 400 * 5 <= max(size for _, size, *_ in recorder.seen) < 400**2
    if device == "mps":  # it has no float64 and no sparse tensors; steps are counted on the CPU
        arrays = {each[2:] for each in recorder.seen if each[1] > 1}
        assert arrays <= {(dtype, torch.strided) for dtype in (torch.float32, torch.bool)}
