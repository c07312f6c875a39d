"""The claims of the MovieLens notebook."""

from typing import Any

import numpy as np
import pandas as pd

from assignment.movies.recommend import mean_overlap
from tests.claims import Claim


def of_sequel(n: Any) -> int:
    likes = n.nearest[n.queries[2]].set_index("title")["likes"]
    return int(likes["Home Alone 2: Lost in New York (1992)"])


def overlap_by_band(n: Any) -> pd.DataFrame:
    return n.points.pivot_table("overlap", n.bands, "query", "mean", observed=False, sort=False)


def by_step_size(n: Any, band: str) -> pd.Series:
    """How many more films of the converged ten are found with one step size for all."""
    of_band = n.by_way.loc[band]
    return of_band.loc["one for all"] - of_band.loc["adaptive (per parameter)"]


def genres(n: Any, title: str) -> set[str]:
    return set(n.near_toy_story.loc[title, "genres"].split("|"))


def thresholds_keep(n: Any) -> int:
    return max(int(count) for row in n.threshold_overlap for count in list(row.values())[1:])


CLAIMS: list[Claim] = [
    # 2.2
    (
        "three random starts end at the same value",
        lambda n: all(abs(run["value"] / n.lowest_cost - 1) < 1e-6 for run in n.random_floors),
    ),
    (
        "We call it the *floor*",
        lambda n: all(run["final"] > (1 - 1e-6) * n.lowest_cost for run in n.every),
    ),
    (
        "no run of any method lies below the floor",
        lambda n: min(run["losses"].min() for run in n.every) > (1 - 1e-4) * n.lowest_cost,
    ),
    ("it comes closest to the floor", lambda n: n.ranking[0] == "L-BFGS"),
    (
        "L-BFGS pays only where the last digits matter",
        lambda n: n.by_optimiser["L-BFGS"]["final"] < 1.00001 * n.lowest_cost,
    ),
    (
        "the same tail, much steeper",
        lambda n: (
            max(n.finals["momentum"], n.finals["Nesterov"])
            < 1e-3
            < n.finals["gradient descent"]
            < 5e-3
        ),
    ),
    (
        "Near the floor the division hurts",
        lambda n: min(n.finals["RMSprop"], n.finals["Adam"]) > n.finals["gradient descent"],
    ),
    (
        "at a constant rate Adam ends up oscillating",
        lambda n: np.ptp(n.by_optimiser["Adam"]["losses"][-200:]) > 0.01 * n.lowest_cost,
    ),
    ("momentum and Nesterov by seconds", lambda n: n.quickest in ("momentum", "Nesterov")),
    # 2.3
    (
        "momentum and Nesterov come closest to the floor",
        lambda n: set(n.ranking[:3]) == {"L-BFGS", "momentum", "Nesterov"},
    ),
    ("so a film with many fans needs a long vector", lambda n: n.length_and_likes > 0.8),
    (
        "Nesterov's nearly in full, plain descent's a little less",
        lambda n: (
            n.by_start["of the ten of another start"].iloc[0] == 10
            and n.by_start["of the ten of another start"].iloc[1:].is_monotonic_decreasing
            and n.by_start["of the ten of another start"].iloc[1] > 9
        ),
    ),
    ("although very few users liked that one", lambda n: of_sequel(n) < 10),
    (
        "keeps company with big American films of its years",
        lambda n: n.nearest[n.queries[0]]["year"].between(1990, 1995).all(),
    ),
    (
        "The inner product and the raw counts recommend what is popular",
        lambda n: (
            n.shared["inner product"] > n.shared["cosine"]
            and n.shared["raw co-likes"] > n.shared["cosine co-likes"]
        ),
    ),
    (
        "at most distances from the floor its list is the least complete",
        lambda n: (
            overlap_by_band(n)["Home Alone"].iloc[1:]
            < overlap_by_band(n)[["Apollo 13", "Toy Story"]].min(axis=1).iloc[1:]
        ).all(),
    ),
    (
        "At 1.1 times the predicted step the loss stays high for ever",
        lambda n: n.runs["1.1 x step"]["losses"][-1] > 2 * n.lowest_cost,
    ),
    (
        "its lists are nearly the converged ones",
        lambda n: mean_overlap(n.runs["1.1 x step"]["lists"][-1], n.floor["lists"]) > 8,
    ),
    (
        "the closer a run comes, the more of the ten are the converged ten",
        lambda n: n.rank < -0.7,
    ),
    (
        "have found fewer of the films near *Apollo 13* and *Toy Story*",
        lambda n: (by_step_size(n, "10 to 100 %")[["Apollo 13", "Toy Story"]] > 1.5).all(),
    ),
    (
        "Near the floor the difference is less than one film of ten",
        lambda n: (by_step_size(n, "0.1 to 1 %") < 1).all(),
    ),
    ("Only the single longest direction overshoots there", lambda n: n.carried > 0.99),
    (
        "it changes the lists more than any run did",
        lambda n: thresholds_keep(n) < n.near,
    ),
    # 2.4
    ("animated films keep together", lambda n: n.together > 3 * n.animated.mean()),
    (
        "first genre explains less than years do",
        lambda n: (
            np.divide(*n.alike["released within two years"])
            > 1.5 * np.divide(*n.alike["same first genre"])
        ),
    ),
    (
        "films of a few years in the middle of the nineties",
        lambda n: 1990 < n.median[n.anchors[0]] < 1997 and n.spread[n.anchors[0]] < n.overall / 2,
    ),
    (
        "films made within a few years of each other",
        lambda n: n.median[n.anchors[1]] > 2005 and n.spread[n.anchors[1]] < n.overall / 2,
    ),
    ("Around *Casablanca* are the classics", lambda n: n.median[n.anchors[2]] < 1970),
    (
        "liked by users who came much later",
        lambda n: (
            n.liked_in(n.films_mapped.index[n.clusters[n.anchors[0]]])
            < 2001
            < n.liked_in(n.films_mapped.index[n.clusters[n.anchors[2]]])
            < n.liked_in(n.films_mapped.index[n.clusters[n.anchors[1]]])
        ),
    ),
    (
        "are among the ten nearest to *Toy Story*, and share no genre with a film for children",
        lambda n: not any(genres(n, t) & {"Animation", "Children", "Comedy"} for t in n.surprises),
    ),
    (
        "all three are among the best-liked one percent",
        lambda n: (
            n.near_toy_story.loc[n.surprises, "likes"] > np.quantile(n.liked.count, 0.99)
        ).all(),
    ),
    (
        "It is half right",
        lambda n: (
            1
            < n.lift["The Silence of the Lambs"]
            < 1.5
            < n.lift["The Sixth Sense"]
            < n.lift["Toy Story 2"]
        ),
    ),
    # 2.5
    (
        "Each added dimension can only lower the floor",
        lambda n: n.by_dim["floor"].is_monotonic_decreasing,
    ),
    (
        "the same number of iterations leaves a larger gap to the floor",
        lambda n: (n.by_dim["loss"] / n.by_dim["floor"]).is_monotonic_increasing,
    ),
    (
        "its own sequel is not among the nearest five",
        lambda n: (
            n.by_dim["nearest five"].str.contains("Toy Story 2").to_list()
            == [False, True, True, True, True]
        ),
    ),
    (
        "so do other very popular films, whatever their kind",
        lambda n: (
            n.by_dim["nearest five"].str.contains("Jurassic Park").to_list()
            == [False, False, True, True, True]
        ),
    ),
    # 2.6
    (
        "a popular film keeps several of its ten",
        lambda n: n.kept_of_ten.iloc[-1] > 5 * n.kept_of_ten.iloc[0],
    ),
    (
        "They share somewhat more genres with it than two random films do",
        lambda n: n.chance < n.genres_shared.iloc[0] < n.genres_shared.iloc[-1],
    ),
    ("hardly any of its neighbours remain", lambda n: n.kept_of_ten.iloc[0] < 0.5),
    # 2.7
    (
        "find clearly more of the hidden likes than popularity",
        lambda n: n.compare("embeddings, cosine", "popularity")[0] > 0,
    ),
    (
        "more than the same vectors by inner product",
        lambda n: n.compare("embeddings, cosine", "embeddings, inner product")[0] > 0,
    ),
    (
        "The interval of the difference contains zero",
        lambda n: np.prod(n.compare("embeddings, cosine", "cosine co-likes")) < 0,
    ),
    (
        "With both chosen, the same cost finds more hidden likes than the baseline",
        lambda n: n.compare("embeddings, chosen", "embeddings, cosine")[0] > 0,
    ),
    (
        "More dimensions help by ever less (the last table): most is gained by the first hundred",
        lambda n: (n.inner[100] - n.inner[10] > 5 * (n.inner[200] - n.inner[100])).all(),
    ),
    (
        "The descent that is stopped early finds no fewer hidden likes",
        lambda n: n.compare("embeddings, chosen, stopped early", "embeddings, chosen")[1] > 0,
    ),
    (
        "The three inner splits agree on 200 dimensions, the most that we tried",
        lambda n: np.ptp(n.choices, axis=0).tolist() == [15, 0] and n.dim == max(n.config.dims),
    ),
    (
        "ItemKNN finds a little more than the embeddings at their floor",
        lambda n: n.compare("ItemKNN", "embeddings, chosen")[0] > 0,
    ),
    (
        "iALS and EASE find clearly more than any of our embeddings",
        lambda n: all(
            n.compare(method, ours)[0] > 0
            for method in ("iALS", "EASE")
            for ours in ("embeddings, chosen", "embeddings, chosen, stopped early")
        ),
    ),
    (
        "Each of the three finds fewer hidden likes than the counts themselves",
        lambda n: all(
            n.evaluation.bootstrap_interval(n.targets["X"] - recall)[0] > 0
            for name, recall in n.targets.items()
            if name != "X"
        ),
    ),
    (
        "with the counts most of what is fitted lies in pairs that ten or more users liked both",
        lambda n: n.in_strong[0] > 0.5 > n.in_strong[1:].max(),
    ),
    (
        "The lists share most of their titles",
        lambda n: n.recommend.mean_overlap(n.answer["lists"][-1], n.chosen["lists"]) > 5,
    ),
    (
        "*Home Alone* loses its sequel, which has too few likes to take part",
        lambda n: (
            of_sequel(n) < n.fewest
            and "Home Alone 2: Lost in New York" in n.two_lists(n.queries[2]).iloc[:, 0].to_list()
        ),
    ),
    (
        "the lists of either embedding are far more alike than chance",
        lambda n: all(
            np.nanmean(n.judged[judge, ours])
            > 1.5 * np.nanmean(n.judged[judge, "ten films at random"])
            for judge in n.judges
            for ours in ("the answer", "the chosen")
        ),
    ),
    (
        "By genre the chosen lists are a little better",
        lambda n: n.evaluation.bootstrap_interval(n.gained["genres in common"])[0] > 0,
    ),
    (
        "by tags the interval of the difference contains zero",
        lambda n: (
            np.prod(
                n.evaluation.bootstrap_interval(
                    pd.Series(n.gained["share a tag"]).dropna().to_numpy()
                )
            )
            < 0
        ),
    ),
]
