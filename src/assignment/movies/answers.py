"""The answers of the MovieLens notebook, a line for each question, from the runs that are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assignment.common.tables import Notice, answers_table
from assignment.movies import experiments as ex
from assignment.movies.movielens import count_colikes
from assignment.movies.recommend import by_cosine, mean_overlap, short_title


def answers(
    study: ex.Study, recipes: Mapping[str, Any], method: str, dim: int, seeds: Sequence[int]
) -> Notice:
    """Answer each question in a line, for what the notebook chose; no run is started."""
    data, liked, title = study.data, study.liked, study.data.movies["title"]
    films, X = len(liked.movies), count_colikes(liked)
    likes = f"{liked.matrix.sum():,} likes; {1 - X.nnz / (films**2 - films):.1%} of X are zeros"

    def convergence() -> str:
        floor = study.floor(dim, keep_vectors=True)["value"]
        runs = {label: study.descend(*how, dim=dim) for label, how in recipes.items()}
        ends = sorted((ex.above_floor(run, floor), label) for label, run in runs.items())
        above = "; ".join(f"{label} {ex.percent(end)}" for end, label in ends[:4])
        return (
            f"first, by the clock and at these rates, within 1 % of the lowest loss found (the "
            f"floor): {ex.soonest(runs, floor)}. Above it at the end: {above}; the others up to "
            f"{ex.percent(ends[-1][0])}"
        )

    def nearest() -> str:
        vectors = study.descend(*recipes[method], dim=dim, keep_vectors=True)["vectors"]
        lists = by_cosine(data, liked, vectors).top(study.films, 3)
        named = zip(study.titles, lists, strict=True)
        return "; ".join(f"*{f}*: {', '.join(map(short_title, title[ten]))}" for f, ten in named)

    def changes() -> str:
        floor = study.floor(dim, keep_vectors=True)
        runs = [study.descend(*how, dim=dim) for how in recipes.values()]
        for name in (method, "gradient descent"):
            runs += [study.descend(*recipes[name], dim=dim, seed=seed) for seed in seeds[1:]]
        near = [run["lists"][-1] for run in runs if run["final"] < 1.005 * floor["value"]]
        least = min((mean_overlap(lists, floor["lists"]) for lists in near), default=0)
        return (
            "yes, while a run is unfinished; of those that end within 0.5 % of the floor (with "
            "more seeds of two methods) each has, "
            f"on average over the films, {least:.1f} or more of the floor's ten"
        )

    def order() -> str:
        films = data.movies.loc[liked.movies[liked.count >= 5]]
        year, places = films["year"].to_numpy(dtype=float), study.film_map()["places"]
        genre = films["genres"].str.split("|").str[0].to_numpy()
        years = ex.share_alike(places, lambda i, j: abs(year[i] - year[j]) <= 2)
        genres = ex.share_alike(places, lambda i, j: genre[i] == genre[j])
        return (
            f"of near neighbours {years[0]:.0%} are at most two years apart (of any two films "
            f"{years[1]:.0%}), {genres[0]:.0%} share their first genre ({genres[1]:.0%})"
        )

    def dimensions() -> str:
        ends = (study.floor(d, keep_vectors=d == dim)["value"] for d in (10, 200))
        few, many = (end / np.square(X.data).sum() for end in ends)
        tried = np.mean([study.held_out(seed=seed)["tried"][0] for seed in seeds], axis=0)
        return (
            f"the floor falls from {few:.1%} of what zeros cost, at 10, to {many:.1%}, at 200; on "
            f"hidden likes NDCG@10 is {tried[0]:.3f} at 10, {tried[-2]:.3f} at 100 and "
            f"{tried[-1]:.3f} at 200"
        )

    def cold() -> str:
        kept = ex.mean_by_ratings(data, ex.stability(study.halves(dim)))["mean"]
        return (
            f"no: with the users split in two, films with {kept.index[-1]} ratings keep "
            f"{kept.iloc[-1]:.1f} of their ten neighbours, films with {kept.index[0]} keep "
            f"{kept.iloc[0]:.1f}"
        )

    def quality() -> str:
        found = ex.pool_splits([study.held_out(seed=seed) for seed in seeds])
        names = ("popularity", "cosine co-likes", "embeddings, cosine", ex.CHOSEN, "iALS", "EASE")
        return "; ".join(f"{name} {found[name].recall.mean():.3f}" for name in names)

    return answers_table({
        "2.1 The data: MovieLens, likes and co-likes": [("How many likes?", lambda: likes)],
        "2.2 The cost, and how fast it falls": [("How close to the floor?", convergence)],
        "2.3 Ten neighbours for three films": [
            ("What is near?", nearest), ("Do rate and optimiser change the lists?", changes),
        ],
        "2.4 A map of the films": [("What orders it?", order)],
        "2.5 How many dimensions": [("What do more bring?", dimensions)],
        "2.6 Cold start": [("Are a cold film's neighbours as good?", cold)],
        "2.7 Is it any good?": [("How many hidden likes are found (recall@10)?", quality)],
    })  # fmt: skip
