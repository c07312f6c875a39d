"""The embeddings: the fast cost is the literal one, the floor is the floor, and runs behave."""

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.movies import embedding, movielens
from assignment.movies.cost import build_cost, literal_cost
from assignment.movies.movielens import Likes

Matrix = np.ndarray


def liked(table: Matrix) -> Likes:
    users, movies = table.shape
    matrix = sparse.csr_array(table.astype(np.int64))
    return Likes(matrix, np.arange(users), np.arange(movies), 4.0)


def random_likes(users: int, movies: int, density: float = 0.2, seed: int = 0) -> Likes:
    return liked(np.random.default_rng(seed).random((users, movies)) < density)


def dense_colikes(likes: Likes) -> Matrix:
    return np.asarray(movielens.count_colikes(likes).toarray(), dtype=np.float64)


@functools.cache
def sample_likes() -> Likes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSIGNMENT_MODE", "sample")
        return movielens.build_likes(movielens.load())


@functools.cache
def real_likes() -> Likes:
    return movielens.build_likes(movielens.load())


@pytest.fixture(autouse=True)
def on_one_thread_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where cores are shared, the threads of many small steps wait longer than they compute."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- the objective --------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Likes, Matrix]:
    """Likes and vectors, and the corners: lonely films, users of one film, repeats, d = 1."""
    users, movies = draw(st.integers(1, 7)), draw(st.integers(1, 8))
    dim = draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = generator.random((users, movies)) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    if draw(st.booleans()):
        table[0] = np.arange(movies) == 0  # a user who likes one film
    if draw(st.booleans()):
        table[:, -1] = False  # a film liked by nobody
    if draw(st.booleans()):
        table[-1, :] = table[0, :]
    vectors = generator.normal(size=(movies, dim)) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    if draw(st.booleans()):
        vectors[-1] = vectors[0]
    return liked(table), vectors


def double_loop(likes: Likes, vectors: Matrix) -> tuple[float, Matrix, float, float]:
    """Cost and gradient straight from the definition, with the sums of their absolute terms."""
    table = likes.matrix.toarray()
    movies, cost, gradient = len(vectors), 0.0, np.zeros_like(vectors)
    size, gradient_size = 0.0, np.zeros_like(vectors)
    for i in range(movies):
        for j in range(movies):
            if i == j:
                continue
            colike = sum(int(a) * int(b) for a, b in zip(table[:, i], table[:, j], strict=True))
            inner = float(vectors[i] @ vectors[j])
            cost += (inner - colike) ** 2
            size += inner**2 + 2 * abs(inner) * colike + colike**2
            gradient[i] += 4 * (inner - colike) * vectors[j]
            gradient_size[i] += 4 * (abs(inner) + colike) * np.abs(vectors[j])
    # The fast form adds and takes away the pairs i = j: they are among its terms.
    squares, count = (vectors**2).sum(1), likes.count
    size += float((squares**2 + 2 * squares * count).sum())
    gradient_size += 4 * (squares + count)[:, None] * np.abs(vectors)
    return cost, gradient, size, float(gradient_size.sum())


@hypothesis.settings(deadline=None, max_examples=150)
@given(cases())
def test_cost_and_gradient_are_those_of_the_literal_double_loop(case: tuple[Likes, Matrix]) -> None:
    likes, numbers = case
    expected, slope, size, slope_size = double_loop(likes, numbers)
    vectors = torch.from_numpy(numbers).requires_grad_()
    loss = build_cost(likes)(vectors)
    loss.backward()
    assert abs(loss.item() - expected) <= 1e-10 * size
    assert vectors.grad is not None
    assert float((vectors.grad - torch.from_numpy(slope)).abs().max()) <= 1e-10 * slope_size
    literal_vectors = torch.from_numpy(numbers).requires_grad_()
    literal = literal_cost(literal_vectors, torch.from_numpy(dense_colikes(likes)))
    literal.backward()
    assert abs(literal.item() - expected) <= 1e-10 * size
    assert literal_vectors.grad is not None
    assert float((literal_vectors.grad - vectors.grad).abs().max()) <= 1e-10 * slope_size


@hypothesis.settings(deadline=None, max_examples=40)
@given(cases())
def test_gradient_is_that_of_finite_differences(case: tuple[Likes, Matrix]) -> None:
    likes, numbers = case
    cost = build_cost(likes)
    vectors = torch.from_numpy(numbers)
    gradient = cost.cost_and_gradient(vectors)[1]
    *_, size, _ = double_loop(likes, numbers)
    step = 1e-3 * float(np.abs(numbers).max())
    for place in np.ndindex(*numbers.shape):
        values = []
        for h in (-2, -1, 1, 2):
            moved = vectors.clone()
            moved[place] += h * step
            values.append(cost(moved).item())
        # The cost is of degree four in any one direction, where this formula is exact.
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        rounding = 1e-14 * size / step
        assert abs(slope - gradient[place].item()) <= 1e-6 * gradient.abs().max() + rounding


@hypothesis.settings(deadline=None, max_examples=40)
@given(cases(), st.integers(0, 1000))
def test_turning_the_vectors_leaves_the_cost(case: tuple[Likes, Matrix], seed: int) -> None:
    likes, numbers = case
    dim = numbers.shape[1]
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    cost = build_cost(likes)
    before, after = (cost(torch.from_numpy(v)).item() for v in (numbers, numbers @ turn))
    assert abs(before - after) <= 1e-10 * double_loop(likes, numbers)[2]


@pytest.mark.needs("real_data")
def test_float32_losses_are_as_good_as_said_at_the_floor() -> None:
    cost = build_cost(real_likes())
    lowest = embedding.find_floor(real_likes(), 10).vectors
    for seed in range(5):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(10, 10)))[0]
        vectors = torch.from_numpy(lowest @ turn).float()
        exact = cost(vectors.double()).item()
        assert abs(cost(vectors).item() - exact) < 1e-6 * cost.constant


@pytest.mark.parametrize("portable", [False, True])
def test_float32_is_close_to_float64_in_both_forms(portable: bool) -> None:
    likes = random_likes(40, 90)
    vectors = torch.randn(90, 7, generator=torch.Generator().manual_seed(0))
    exact, slope = build_cost(likes).cost_and_gradient(vectors.double())
    cost, gradient = build_cost(likes, portable=portable).cost_and_gradient(vectors)
    assert cost.item() == pytest.approx(exact.item(), rel=1e-5)
    assert float((gradient - slope).abs().max()) <= 1e-5 * float(slope.abs().max())


def test_the_gradient_is_scaled_by_what_comes_down_to_it() -> None:
    likes = random_likes(9, 12)
    cost = build_cost(likes)
    vectors = torch.randn(12, 3, requires_grad=True)
    (3 * cost(vectors)).backward()
    assert vectors.grad is not None
    torch.testing.assert_close(vectors.grad, 3 * cost.cost_and_gradient(vectors.detach())[1])


def test_real_constants_are_those_of_the_data() -> None:
    likes = random_likes(15, 30)
    assert build_cost(likes).constant == (dense_colikes(likes) ** 2).sum()


# --- what a step may touch ------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Looks at every tensor that any operation makes, autograd's and the optimiser's included."""

    def __init__(self, look: Callable[[Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.look, self.seen = look, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, Tensor):
                self.seen += 1
                self.look(made)
        return out


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
@pytest.mark.parametrize("portable", [False, True])
def test_no_tensor_is_as_large_as_films_by_films(
    optimiser: str, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    movies = 400
    likes = random_likes(30, movies, 0.05)
    build = functools.partial(build_cost, portable=portable)
    monkeypatch.setattr(embedding, "build_cost", build)

    def look(made: Tensor) -> None:
        assert made.numel() < movies**2, f"a tensor of shape {tuple(made.shape)}"

    with Watch(look) as watch:
        if portable:
            monkeypatch.setattr(Tensor, "double", Tensor.float)  # the end value, taken on the CPU
        embedding.fit(likes, 5, optimiser, iterations=3)
    assert watch.seen > 50


def test_the_floor_needs_no_tensor_as_large_as_films_by_films() -> None:
    movies = 400

    def look(made: Tensor) -> None:
        assert made.numel() < movies**2, f"a tensor of shape {tuple(made.shape)}"

    with Watch(look):
        embedding.find_floor(random_likes(30, movies, 0.05), 5)


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_the_form_for_mps_uses_nothing_that_mps_lacks(optimiser: str) -> None:
    likes = random_likes(30, 60)
    cost = build_cost(likes, portable=True)
    vectors = (torch.randn(60, 5) * 0.1).requires_grad_()
    build = embedding.OPTIMISERS[optimiser]

    def look(made: Tensor) -> None:
        # Adam and its like count their steps in a float32 or int64 scalar of the CPU.
        assert made.dtype in (torch.float32, torch.int64, torch.bool) or made.numel() == 1
        assert made.dtype is not torch.float64 or made.device.type == "cpu"
        assert made.layout is torch.strided

    def strict(made: Tensor) -> None:
        assert made.dtype is torch.float32
        assert made.layout is torch.strided

    with Watch(strict):
        cost(vectors).backward()
    with Watch(look):
        list(embedding.descend(cost, vectors, build([vectors]), 3))


def test_mps_gets_that_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "device", lambda _: type("Device", (), {"type": "mps"})())
    monkeypatch.setattr(Tensor, "to", lambda self, *_, **__: self)
    built = build_cost(random_likes(5, 8), "mps")
    assert isinstance(built.likes, Tensor)
    assert isinstance(built.liked_by, Tensor)
    assert built.wide is torch.float32


@pytest.mark.needs("mps")
def test_a_run_on_mps_ends_where_one_on_the_cpu_does() -> None:
    likes = sample_likes()
    there, here = (
        embedding.fit(likes, 8, "momentum", 1e-5, 50, device=torch.device(on))
        for on in ("mps", "cpu")
    )
    assert there.final == pytest.approx(here.final, rel=1e-3)


@pytest.mark.needs("cuda")
def test_a_run_on_cuda_ends_where_one_on_the_cpu_does() -> None:
    likes = sample_likes()
    there, here = (
        embedding.fit(likes, 8, "momentum", 1e-5, 50, device=torch.device(on))
        for on in ("cuda", "cpu")
    )
    assert there.final == pytest.approx(here.final, rel=1e-3)


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_every_optimiser_descends_and_stays_above_the_floor(optimiser: str) -> None:
    likes = random_likes(40, 60)
    lowest = embedding.find_floor(likes, 4).value
    lr = {"sgd": 1e-3, "momentum": 3e-4, "nesterov": 3e-4, "adagrad": 0.5, "lbfgs": 1.0}.get(
        optimiser, 0.05
    )
    run = embedding.fit(likes, 4, optimiser, lr, 300, floor=lowest)
    assert not run.diverged
    assert len(run.losses) == 301
    assert run.losses.dtype == np.float64
    assert run.vectors.shape == (60, 4)
    assert run.vectors.dtype == np.float32
    assert run.losses[-1] == pytest.approx(run.final, rel=1e-5)
    assert lowest * (1 - 1e-9) <= run.final < 1.05 * lowest
    assert run.losses.min() >= lowest * (1 - 1e-5)
    assert run.seconds > 0
    assert run.config == embedding.Config(4, optimiser, lr, 300, 0, 0.1)


@pytest.mark.parametrize("optimiser", embedding.OPTIMISERS)
def test_same_seed_same_run_and_another_seed_another(optimiser: str) -> None:
    likes = random_likes(20, 30)
    one, two, other = (
        embedding.fit(likes, 3, optimiser, iterations=20, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.vectors, two.vectors)
    np.testing.assert_array_equal(one.losses, two.losses)
    assert not np.array_equal(one.vectors, other.vectors)


def test_a_run_leaves_the_random_state_of_others_alone() -> None:
    before = torch.get_rng_state()
    embedding.fit(random_likes(5, 8), 2, iterations=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("lr", [10.0, 1e30])
def test_a_diverging_run_ends_early_and_quietly(optimiser: str, lr: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = embedding.fit(random_likes(20, 30), 3, optimiser, lr, 200)
    assert run.diverged
    assert 1 <= len(run.losses) < 50
    assert np.isfinite(run.losses).all()
    assert run.final == math.inf


def test_a_start_that_overflows_is_a_diverged_run() -> None:
    run = embedding.fit(random_likes(20, 30), 3, "sgd", 1e-5, 20, scale=1e30)
    assert run.diverged
    assert len(run.losses) == 0


def test_snapshots_are_the_vectors_after_so_many_steps() -> None:
    likes = random_likes(20, 30)
    steps = (0, 1, 7, 12)
    run = embedding.fit(likes, 3, "sgd", 1e-3, 12, snapshots=steps)
    assert tuple(run.snapshots) == steps
    cost = build_cost(likes)
    for step, vectors in run.snapshots.items():
        assert cost(torch.from_numpy(vectors)).item() == pytest.approx(run.losses[step], rel=1e-6)
    np.testing.assert_array_equal(run.snapshots[12], run.vectors)


def test_plain_gradient_descent_is_what_it_says() -> None:
    likes = random_likes(20, 30)
    run = embedding.fit(likes, 3, "sgd", 1e-3, 5, snapshots=(0,))
    vectors = torch.from_numpy(run.snapshots[0]).double()
    for _ in range(5):
        vectors = vectors - 1e-3 * build_cost(likes).cost_and_gradient(vectors)[1]
    np.testing.assert_allclose(run.vectors, vectors.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"optimiser": "adamw"}, "optimiser is 'adamw'; choose one of sgd, momentum, nesterov"),
        ({"dim": 0}, "dim is 0; it must be finite and above zero"),
        ({"iterations": 0}, "iterations is 0; it must be finite and above zero"),
        ({"lr": 0.0}, "lr is 0.0; it must be"),
        ({"lr": -1.0}, "lr is -1.0; it must be"),
        ({"lr": math.nan}, "lr is nan; it must be"),
        ({"lr": math.inf}, "lr is inf; it must be"),
        ({"scale": -0.1}, "scale is -0.1; it must be"),
        ({"scale": 0.0}, "scale is 0, and zero is a saddle point"),
    ],
    ids=str,
)
def test_a_wrong_argument_gets_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssignmentError, match=sentence):
        embedding.fit(random_likes(5, 8), **arguments)


def test_zero_is_a_saddle_point_as_the_refusal_says() -> None:
    cost, gradient = build_cost(random_likes(5, 8)).cost_and_gradient(torch.zeros(8, 2))
    assert cost.item() > 0
    assert not gradient.any()


# --- the floor ------------------------------------------------------------------------------------


def lowest_by_scipy(likes: Likes, dim: int) -> float:
    """The literal cost over dense X, minimised by another implementation from many starts."""
    X = dense_colikes(likes)

    def literal(flat: Matrix) -> tuple[float, Matrix]:
        vectors = flat.reshape(len(X), dim)
        errors = vectors @ vectors.T - X
        np.fill_diagonal(errors, 0)
        return float((errors**2).sum()), (4 * errors @ vectors).ravel()

    generator = np.random.default_rng(0)
    options = {"maxiter": 1000, "ftol": 1e-13}
    starts = [generator.normal(size=len(X) * dim) for _ in range(8)]
    runs = [minimize(literal, x, jac=True, method="L-BFGS-B", options=options) for x in starts]
    return float(min(run.fun for run in runs))


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_floor_is_what_scipy_finds_on_the_literal_cost(dim: int, seed: int) -> None:
    likes = random_likes(25, 14, 0.4, seed)
    expected = lowest_by_scipy(likes, dim)
    found = embedding.find_floor(likes, dim)
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert build_cost(likes)(torch.from_numpy(found.vectors)).item() == pytest.approx(
        found.value, rel=1e-12
    )


def test_the_floor_is_zero_where_the_films_can_be_told_apart_exactly() -> None:
    likes = random_likes(6, 9, 0.5)  # A'A has rank 6 and X is A'A off the diagonal
    scale = build_cost(likes).constant
    assert 0 <= embedding.find_floor(likes, 6).value + 1e-9 * scale < 1e-6 * scale


def test_likes_without_any_colike_get_a_sentence() -> None:
    likes = liked(np.eye(9))
    for ask in (embedding.find_floor, embedding.largest_stable_step):
        with pytest.raises(AssignmentError, match="No user likes two films"):
            ask(likes)


@pytest.mark.parametrize("dim", [1, 9, 12])
def test_the_floor_takes_any_dimension(dim: int) -> None:
    found = embedding.find_floor(random_likes(12, 9, 0.5), dim)
    assert found.vectors.shape == (9, dim)
    assert np.isfinite(found.vectors).all()
    lengths = np.linalg.norm(found.vectors, axis=0)
    assert (np.diff(lengths) <= 1e-9).all()
    gram = found.vectors.T @ found.vectors
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8 * gram.max())


def test_leading_eigenpairs_are_those_of_the_dense_matrix() -> None:
    likes = random_likes(30, 50)
    X = dense_colikes(likes)
    expected = np.linalg.eigvalsh(X)[::-1]
    for how_many in (1, 5, 40):
        values, vectors = embedding.leading_eigenpairs(likes, how_many)
        np.testing.assert_allclose(values, expected[:how_many], atol=1e-9 * expected[0])
        np.testing.assert_allclose(X @ vectors, vectors * values, atol=1e-7 * expected[0])


@pytest.mark.needs("real_data")
def test_the_floor_of_the_real_data_is_reached_from_a_random_start_too() -> None:
    likes = real_likes()
    lowest = real_floor().value
    assert lowest == pytest.approx(1_687_122.2267, abs=0.01)
    assert embedding.find_floor(likes, 50, seed=0).value == pytest.approx(lowest, rel=1e-6)


@functools.cache
def real_floor() -> embedding.Floor:
    return embedding.find_floor(real_likes(), 50)


# --- the largest stable step ----------------------------------------------------------------------


def top_curvature(likes: Likes, vectors: Matrix) -> float:
    """The largest eigenvalue of the Hessian, by power iteration on differences of the gradient."""
    cost, at = build_cost(likes), torch.from_numpy(vectors)
    direction = at + torch.randn(at.shape, generator=torch.Generator().manual_seed(0))
    value = 0.0
    for _ in range(40):
        direction /= direction.norm()
        ahead, behind = (cost.cost_and_gradient(at + h * direction)[1] for h in (1e-4, -1e-4))
        direction = (ahead - behind) / 2e-4
        value = float(direction.norm())
    return value


@pytest.mark.parametrize(
    ("likes", "dim"),
    [
        pytest.param(sample_likes, 10, id="sample"),
        pytest.param(real_likes, 50, id="real", marks=pytest.mark.needs("real_data")),
    ],
)
def test_descent_settles_below_the_predicted_step_and_not_above_it(
    likes: Callable[[], Likes], dim: int
) -> None:
    step = embedding.largest_stable_step(likes())
    lowest = real_floor() if likes is real_likes else embedding.find_floor(likes(), dim)
    assert step == pytest.approx(2 / top_curvature(likes(), lowest.vectors), rel=0.05)
    calm, wild = (embedding.fit(likes(), dim, "sgd", m * step, 1000) for m in (0.9, 1.1))
    assert not calm.diverged
    assert calm.final < 1.005 * lowest.value
    assert (np.diff(calm.losses[-100:]) <= 5e-5 * lowest.value).all()
    assert wild.diverged or wild.losses[-100:].min() > 1.1 * lowest.value


# --- the real data --------------------------------------------------------------------------------


@pytest.mark.needs("real_data")
def test_momentum_comes_within_a_thousandth_of_the_floor_and_not_below_it() -> None:
    run = embedding.fit(real_likes(), 50, "momentum", iterations=300)
    lowest = real_floor().value
    assert lowest <= run.final < 1.001 * lowest
    assert run.losses[0] == pytest.approx(63_482_944, rel=0.01)


def test_the_device_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def note() -> torch.device:
        asked.append(torch.device("cpu"))
        return asked[-1]

    monkeypatch.setattr(settings, "device", note)
    embedding.fit(random_likes(5, 8), 2, iterations=1)
    embedding.fit(random_likes(5, 8), 2, iterations=1, device="cpu")
    assert len(asked) == 1
