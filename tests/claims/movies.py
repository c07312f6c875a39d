"""The claims of the MovieLens notebook."""

from typing import Any

import numpy as np
import pandas as pd

from assignment.movies import embedding, experiments, movielens
from assignment.movies.evaluation import bootstrap_interval
from assignment.movies.recommend import mean_overlap
from tests.claims import Claim

THRESHOLDS = (3.5, 4.0, 4.5)


def likes_at(n: Any) -> list[int]:
    """All likes at three thresholds."""
    return [int((n.data.ratings["rating"] >= threshold).sum()) for threshold in THRESHOLDS]


def kept_at_most_stars(n: Any) -> list[float]:
    """The share of its likes that each film asked about keeps at the highest threshold."""
    normal, strict = (movielens.build_likes(n.data, threshold) for threshold in THRESHOLDS[1:])
    return [
        strict.count[strict.movies == film].sum() / normal.count[normal.movies == film].sum()
        for film in n.study.films
    ]


def likes_of(n: Any) -> list[int]:
    return [int(n.liked.count[n.liked.movies == film].sum()) for film in n.study.films]


def near(n: Any, query: int) -> pd.DataFrame:
    """The ten nearest of a film asked about, by title."""
    return n.neighbours.similar(n.study.films[query]).set_index("title")


def of_sequel(n: Any) -> int:
    return int(near(n, 2).loc["Home Alone 2: Lost in New York (1992)", "likes"])


def rate(n: Any, share: str) -> Any:
    return n.by_rate[f"{share} x predicted"]


def end(n: Any, name: str, rate: str) -> float:
    """How far above the floor a run of Table 5 ends; infinitely far where it diverges."""
    run = n.changed[name][rate]
    return float(np.inf if run["diverged"] else experiments.above_floor(run, n.floor["value"]))


def overlap(n: Any, near: bool) -> pd.Series:
    """The mean overlap of each film, of moments within half a per mille of the floor or others."""
    rows = n.points[(n.points["above"] < 5e-4) == near]
    return rows.groupby("query")["overlap"].mean()


def parted(n: Any) -> np.ndarray:
    """How far the answer's vectors are from the floor's, turned onto them: squares by direction."""
    run, floor = n.study.descend(*n.answer, keep_vectors=True), n.study.floor(keep_vectors=True)
    found, best = (each["vectors"].astype(np.float64) for each in (run, floor))
    left, _, right = np.linalg.svd(found.T @ best)
    return np.square(np.linalg.svd(found @ left @ right - best, compute_uv=False))


def stand_ins(n: Any, query: int) -> list[tuple[float, float]]:
    """The mean likes of what a run lists beside the floor's ten, and of what it lacks of these."""
    likes = dict(zip(n.liked.movies.tolist(), n.liked.count.tolist(), strict=True))
    pairs = [(run["lists"][-1][query], n.floor["lists"][query]) for run in n.runs.values()]
    return [
        tuple(np.mean([likes[m] for m in np.setdiff1d(*both)]) for both in ((a, b), (b, a)))
        for a, b in pairs
        if 5 <= mean_overlap([a], [b]) < 10
    ]


def common_fans(n: Any, group: int) -> pd.DataFrame:
    """Of the nearest three of Table 11's cold (0) or popular (1) films: likes, and common fans."""
    generator = np.random.default_rng(0)
    rows: list[tuple[int, int]] = []
    for some in (n.rated[n.rated < 10], n.rated[n.rated > 100])[: group + 1]:
        drawn = generator.choice(some.index, 5, replace=False)
    colikes = movielens.count_colikes(n.liked)
    for film in drawn:
        i, columns = (
            np.searchsorted(n.liked.movies, x) for x in (film, n.neighbours.top([film], 3)[0])
        )
        rows += zip(n.liked.count[columns], colikes[[i]].toarray()[0, columns], strict=True)
    return pd.DataFrame(rows, columns=["likes", "common"])


HALF, TWICE = "half the rate", "twice the rate"


def steps_to_one_percent(n: Any, optimiser: str) -> int:
    within = n.by_optimiser[optimiser]["losses"] < 1.01 * n.floor["value"]
    return int(within.argmax()) if within.any() else 10**9


def overlap_by_band(n: Any) -> pd.DataFrame:
    bands = pd.cut(n.points["above"], [-1, 1e-3, 1e-2, 1e-1, 1, np.inf])
    return n.points.pivot_table("overlap", bands, "query", "mean", observed=False)


def converged(n: Any) -> float:
    """How many of the floor's ten films the runs within half a percent of it have at least."""
    return min(
        mean_overlap(run["lists"][-1], n.floor["lists"])
        for run in n.runs.values()
        if run["final"] < 1.005 * n.floor["value"]
    )


def around(n: Any, film: str, column: str) -> float:
    """A number of Table 8."""
    return float(str(n.clusters.set_index("around").loc[film, column]).split()[0])


def lift(n: Any, film: str, column: str = "lift") -> float:
    rows = n.lift.set_index(n.lift["film"].str.split(" \\(").str[0])
    return float(rows.loc[film, column])


def numbers(n: Any, column: str) -> list[float]:
    """A column of Table 10."""
    return [float(text.strip("%").replace(",", "")) for text in n.by_dim[column]]


def nearest_five(n: Any, title: str) -> list[bool]:
    return [title in five for five in n.by_dim["nearest five, at the floor"]]


def compare(n: Any, first: str, second: str) -> tuple[float, float]:
    """The interval of a difference in recall."""
    return bootstrap_interval(n.results[first].recall - n.results[second].recall)


def gained(n: Any, judge: str) -> tuple[float, float]:
    values = n.judged[judge]["chosen minus 2.3"]
    return bootstrap_interval(values[~np.isnan(values)])


CLAIMS: list[Claim] = [
    # 2.1
    (
        "cuts the ratings about in the middle",
        lambda n: 0.45 < (n.data.ratings["rating"] >= 4).mean() < 0.55,
    ),
    (
        "A few films are liked by a large part of the users and most by one or two",
        lambda n: n.liked.count.max() > 0.4 * len(n.liked.users) and np.median(n.liked.count) <= 2,
    ),
    (
        "most non-zero entries of $X$ are ones",
        lambda n: (movielens.count_colikes(n.liked).data == 1).mean() > 0.5,
    ),
    (
        "*Home Alone* has far fewer likes than the other two",
        lambda n: likes_of(n)[2] < min(likes_of(n)[:2]) / 3,
    ),
    (
        "From 4 to 4.5 stars far more likes are lost than from 3.5 to 4",
        lambda n: likes_at(n)[1] - likes_at(n)[2] > 1.5 * (likes_at(n)[0] - likes_at(n)[1]),
    ),
    (
        "*Home Alone* keeps the smallest share of its own",
        lambda n: kept_at_most_stars(n)[2] == min(kept_at_most_stars(n)),
    ),
    # 2.2
    ("the lowest that we have found from any start", lambda n: n.apart < 1e-6),
    (
        "no run of any method lies below it",
        lambda n: (
            min(run["losses"].min() for run in (*n.by_rate.values(), *n.by_optimiser.values()))
            > (1 - 1e-4) * n.floor["value"]
        ),
    ),
    (
        "At 0.9 of it the loss falls fastest and settles close to the floor",
        lambda n: (
            rate(n, "0.9")["final"] == min(run["final"] for run in n.by_rate.values())
            and rate(n, "0.9")["final"] < 1.005 * n.floor["value"]
        ),
    ),
    (
        "At 1.1 it falls too, at first,",
        lambda n: rate(n, "1.1")["losses"][100] < rate(n, "1.1")["losses"][0] / 5,
    ),
    (
        "the run oscillates to its end",
        lambda n: (
            rate(n, "1.1")["losses"][-1] > 2 * n.floor["value"]
            and (np.diff(rate(n, "1.1")["losses"][-50:]) > 0).any()
        ),
    ),
    (
        "it **diverges** in its second step",
        lambda n: rate(n, "28.9")["diverged"] and len(rate(n, "28.9")["losses"]) == 2,
    ),
    (
        "a thousandth of the predicted step has hardly left its random start",
        lambda n: rate(n, "0.001")["losses"][-1] > 0.98 * rate(n, "0.001")["losses"][0],
    ),
    (
        "L-BFGS by iterations, momentum and Nesterov by seconds",
        lambda n: (
            {*n.quickest.split(", then ")} == {"momentum", "Nesterov"}
            and min(n.by_optimiser, key=lambda name: steps_to_one_percent(n, name)) == "L-BFGS"
        ),
    ),
    (
        "the eigenvalues of $X$ range over orders of magnitude",
        lambda n: (
            (values := embedding.leading_eigenpairs(n.liked, 200)[0])[0] > 100 * abs(values[-1])
        ),
    ),
    (
        "they are close to the floor while plain descent is still on its tail",
        lambda n: (
            max(n.ends["momentum"], n.ends["Nesterov"]) < 1e-3 < n.ends["gradient descent"] < 5e-3
        ),
    ),
    (
        "There they crawl, too:",
        lambda n: all(
            (left := n.by_optimiser[name]["losses"] - n.floor["value"])[1000] > 0.5 * left[500]
            and left[500] < 0.3 * left[200]
            for name in ("momentum", "Nesterov")
        ),
    ),
    (
        "nearly all that parts Nesterov's last vectors from the floor's lies in one direction",
        lambda n: (squares := parted(n))[0] > 0.99 * squares.sum(),
    ),
    (
        "L-BFGS bends at the same height, finds it, and falls on",
        lambda n: (
            n.ends["Nesterov"] / 2
            < (left := n.by_optimiser["L-BFGS"]["losses"] / n.floor["value"] - 1)[150]
            < 2 * n.ends["Nesterov"]
            and left[100] / left[150] < 3 < left[50] / left[100]
            and left[250] < left[150] / 10
        ),
    ),
    (
        "throw the loss far up",
        lambda n: (
            (losses := n.by_optimiser["Adagrad"]["losses"]).max() > 2 * losses[0]
            and losses.argmax() < 10
        ),
    ),
    (
        "Near the floor it can hurt",
        lambda n: min(n.ends["RMSprop"], n.ends["Adam"]) > n.ends["gradient descent"],
    ),
    (
        "at this constant rate Adam ends up oscillating around the minimum",
        lambda n: np.ptp(n.by_optimiser["Adam"]["losses"][-200:]) > 0.01 * n.floor["value"],
    ),
    (
        "A smaller rate arrives later, as the slow Adam shows",
        lambda n: steps_to_one_percent(n, "slow Adam") > steps_to_one_percent(n, "Adam"),
    ),
    (
        "By iterations it leads from the start",
        lambda n: all(
            n.by_optimiser["L-BFGS"]["losses"][1:].tolist()
            < run["losses"][1 : len(n.by_optimiser["L-BFGS"]["losses"])].tolist()
            for name, run in n.by_optimiser.items()
            if name != "L-BFGS"
        ),
    ),
    ("it comes closest to the floor", lambda n: n.ranking[0] == "L-BFGS"),
    (
        "by the clock it pays only where the last digits matter",
        lambda n: (
            n.by_optimiser["L-BFGS"]["final"] < 1.00001 * n.floor["value"]
            and "L-BFGS" not in n.quickest
        ),
    ),
    (
        "Momentum takes twice its rate, the whole predicted one, and is then the closest to the",
        lambda n: (
            n.recipes["momentum"][1] == n.step / 2
            and end(n, "momentum", TWICE)
            == min(end(n, name, share) for name in n.changed for share in n.factors)
            and end(n, "momentum", TWICE) < min(n.ends[name] for name in n.ends if name != "L-BFGS")
        ),
    ),
    ("variant **diverges** there", lambda n: end(n, "Nesterov", TWICE) == np.inf),
    (
        "At twice its rate Adam draws level with Nesterov",
        lambda n: n.ends["Nesterov"] < end(n, "Adam", TWICE) < 2 * n.ends["Nesterov"],
    ),
    (
        "RMSprop gets worse both ways and Adagrad cannot take more",
        lambda n: (
            min(end(n, "RMSprop", share) for share in (HALF, TWICE)) > n.ends["RMSprop"]
            and end(n, "Adagrad", TWICE) == np.inf
        ),
    ),
    (
        "what is gained by momentum is gained at every rate at which it is stable",
        lambda n: (
            max(
                found
                for name in ("momentum", "Nesterov")
                for share in n.factors
                if (found := end(n, name, share)) < np.inf
            )
            < n.ends["gradient descent"]
        ),
    ),
    # 2.3
    (
        "it and momentum come closest to the floor",
        lambda n: set(n.ranking[:3]) == {"L-BFGS", "momentum", "Nesterov"},
    ),
    (
        "keeps company with big American films of its years",
        lambda n: near(n, 0)["year"].between(1990, 1995).all(),
    ),
    (
        "films that simply very many people liked",
        lambda n: (near(n, 1)["likes"] > np.quantile(n.liked.count, 0.99)).sum() >= 5,
    ),
    (
        "lies among adventures and comedies for the family",
        lambda n: near(n, 2)["genres"].str.contains("Children|Comedy|Adventure").sum() >= 9,
    ),
    ("so a film with many fans needs a long vector", lambda n: n.length_and_likes > 0.8),
    (
        "has a large inner product with everything",
        lambda n: n.rankings["inner product"] > 3 * n.rankings["cosine"],
    ),
    (
        "Far above the floor the lists are arbitrary",
        lambda n: n.points["overlap"][n.points["above"] > 10].mean() < 2,
    ),
    (
        "the closer a run comes, the more of its ten are the floor's ten",
        lambda n: n.rank < -0.7,
    ),
    (
        "floors' in full, Nesterov's nearly so, plain descent's a little less",
        lambda n: (same := list(n.same.values()))[0] == 10 > same[1] > 9 > same[2] > 7,
    ),
    (
        "what stands in for the missing films is mostly better known than they are",
        lambda n: all(new > missing for new, missing in stand_ins(n, 2)),
    ),
    (
        "with the fewest likes of the three, settles last",
        lambda n: (
            likes_of(n)[2] == min(likes_of(n))
            and overlap(n, near=False).idxmin() == "Home Alone (1990)"
        ),
    ),
    (
        "Within half a per mille of the floor its list is complete, and *Apollo 13* the one that",
        lambda n: (
            (found := overlap(n, near=True)).idxmin() == "Apollo 13 (1995)"
            and found["Home Alone (1990)"] == 10
        ),
    ),
    (
        "its ninth to eleventh neighbours are almost equally near",
        lambda n: (
            np.ptp(n.neighbours.similar(n.study.films[0], 11)["cosine"].iloc[8:].to_numpy()) < 0.01
        ),
    ),
    (
        "at most distances from the floor its list is the least complete",
        lambda n: (
            (
                overlap_by_band(n)["Home Alone (1990)"]
                < overlap_by_band(n)[["Apollo 13 (1995)", "Toy Story (1995)"]].min(axis=1)
            ).sum()
            >= 3
        ),
    ),
    (
        "at 1.1 times the predicted step the loss stays high",
        lambda n: n.runs["gradient descent, 1.1 x"]["losses"][-1] > 2 * n.floor["value"],
    ),
    (
        "its lists are still nearly the floor's",
        lambda n: (
            mean_overlap(n.runs["gradient descent, 1.1 x"]["lists"][-1], n.floor["lists"]) > 8
        ),
    ),
    ("only the single longest direction overshoots", lambda n: n.beside < 0.01),
    (
        "another threshold changes the lists more than any run did",
        lambda n: max(n.stay.values()) < converged(n),
    ),
    # 2.4
    (
        "years explain more than first genres do",
        lambda n: np.divide(*n.by_year) > 1.5 * np.divide(*n.by_genre),
    ),
    (
        "the big studio films of a few years in the middle of the nineties",
        lambda n: (
            1990 < around(n, "Apollo 13", "median year") < 1997
            and around(n, "Apollo 13", "middle half spans") <= 4
        ),
    ),
    (
        "thrillers next to westerns and medieval battles",
        lambda n: all(
            film in n.clusters["nearest on the map"][0]
            for film in ("The Fugitive", "Tombstone", "Braveheart")
        ),
    ),
    (
        "films made within a few years of each other",
        lambda n: (
            around(n, "The Dark Knight", "median year") > 2005
            and around(n, "The Dark Knight", "middle half spans") <= 4
        ),
    ),
    (
        "the classics, whose years spread widely",
        lambda n: (
            around(n, "Casablanca", "median year") < 1970
            and around(n, "Casablanca", "middle half spans") > 10
        ),
    ),
    (
        "given in the first years of MovieLens",
        lambda n: around(n, "Apollo 13", "median year of likes") < 2001,
    ),
    (
        "liked by users who came much later",
        lambda n: (
            around(n, "The Dark Knight", "median year of likes")
            > around(n, "Casablanca", "median year of likes")
            > around(n, "Apollo 13", "median year of likes")
        ),
    ),
    (
        "are among the ten nearest to *Toy Story*, and share no genre with a film for children",
        lambda n: all(
            lift(n, film, "rank") <= 10
            and not {"Animation", "Children", "Comedy"} & set(genres.split("|"))
            for film, genres in zip(
                ("Silence of the Lambs, The", "Sixth Sense, The"), n.lift["genres"], strict=False
            )
        ),
    ),
    (
        "their audiences overlap simply because each is so large",
        lambda n: min(n.lift["likes"][:2]) > np.quantile(n.liked.count, 0.99),
    ),
    (
        "with *Toy Story* most popular films have a lift well above one",
        lambda n: np.quantile(n.usual, 0.25) > 1.3,
    ),
    (
        "*The Silence of the Lambs* has less than the usual one",
        lambda n: lift(n, "Silence of the Lambs, The") < np.median(n.usual),
    ),
    (
        "a higher lift than more than four in five of the popular films have",
        lambda n: np.quantile(n.usual, 0.8) < lift(n, "Sixth Sense, The") < 2.2,
    ),
    (
        "though lower than the sequel's",
        lambda n: lift(n, "Sixth Sense, The") < lift(n, "Toy Story 2"),
    ),
    # 2.5
    (
        "Each added dimension can only lower the floor",
        lambda n: numbers(n, "floor") == sorted(numbers(n, "floor"), reverse=True),
    ),
    (
        "The first ten remove nearly all of what zero vectors would cost",
        lambda n: n.share[10] < 0.1,
    ),
    (
        "*Toy Story*'s own sequel is not among its nearest five",
        lambda n: nearest_five(n, "Toy Story 2") == [False, True, True, True, True],
    ),
    (
        "so do other very popular films, whatever their kind",
        lambda n: nearest_five(n, "Jurassic Park") == [False, False, True, True, True],
    ),
    (
        "a larger gap to the floor after the same number of iterations",
        lambda n: numbers(n, "above the floor") == sorted(numbers(n, "above the floor")),
    ),
    (
        "beyond a hundred they hardly recommend better",
        lambda n: (n.inner[200] < 1.02 * n.inner[100]).all(),
    ),
    (
        "most is gained by the first hundred (right of Figure 6), whichever films take part",
        lambda n: (n.inner[100] - n.inner[10] > 5 * (n.inner[200] - n.inner[100])).all(),
    ),
    (
        "up to two hundred that costs nothing yet",
        lambda n: (n.inner[200] > 0.995 * n.inner[100]).all(),
    ),
    (
        "two hundred take about twice the time",
        lambda n: 1.5 < (seconds := numbers(n, "seconds"))[4] / seconds[3] < 2.5,
    ),
    ("The price is time", lambda n: numbers(n, "seconds") == sorted(numbers(n, "seconds"))),
    (
        "2.7 takes two hundred all the same, as its inner splits choose, by a hair",
        lambda n: (
            [int(dim) for _, dim in n.choices] == [200] * 3
            and (n.inner[200] - n.inner[100]).max() < 0.005
        ),
    ),
    # 2.6
    (
        "neighbours have few likes themselves, and are liked by the same one or two users",
        lambda n: (found := common_fans(n, 0))["likes"].max() < 5 and {*found["common"]} <= {1, 2},
    ),
    (
        "those of the popular films have dozens of fans in common with them",
        lambda n: common_fans(n, 1)["common"].min() > 20,
    ),
    (
        "somewhat better than chance, and worse than a popular film's",
        lambda n: n.chance < n.content["mean"].iloc[0] < n.content["mean"].iloc[-1],
    ),
    ("hardly any of them remain", lambda n: n.stable["mean"].iloc[0] < 0.5),
    (
        "a popular film keeps three or four of its ten (by chance both would keep almost none)",
        lambda n: 3 < n.stable["mean"].iloc[-1] < 4 and 100 / len(n.liked.movies) < 0.05,
    ),
    # 2.7
    (
        "find clearly more of the hidden likes than popularity",
        lambda n: compare(n, "embeddings, cosine", "popularity")[0] > 0,
    ),
    (
        "more than the same vectors by inner product",
        lambda n: compare(n, "embeddings, cosine", "embeddings, inner product")[0] > 0,
    ),
    (
        "they do no better than untrained cosines",
        lambda n: np.prod(compare(n, "embeddings, cosine", "cosine co-likes")) < 0,
    ),
    (
        "With both chosen, the same cost finds more hidden likes than before",
        lambda n: compare(n, "embeddings, chosen", "embeddings, cosine")[0] > 0,
    ),
    (
        "The three inner splits agree on 200 dimensions, the most that we tried, and not on the",
        lambda n: (
            np.ptp(n.choices, axis=0).tolist() == [15, 0] and n.best_dim == max(n.config.dims)
        ),
    ),
    (
        "the descent that is stopped early finds no fewer",
        lambda n: compare(n, "embeddings, chosen, stopped early", "embeddings, chosen")[1] > 0,
    ),
    (
        "ItemKNN finds a little more than the embeddings at their floor",
        lambda n: 0 < compare(n, "ItemKNN", "embeddings, chosen")[0] < 0.01,
    ),
    (
        "iALS and EASE find clearly more than any of our embeddings",
        lambda n: all(
            compare(n, method, ours)[0] > 0
            for method in ("iALS", "EASE")
            for ours in ("embeddings, chosen", "embeddings, chosen, stopped early")
        ),
    ),
    (
        "Each of the three finds fewer hidden likes than the counts themselves",
        lambda n: all(
            bootstrap_interval(n.targets["X"] - recall)[0] > 0
            for name, recall in n.targets.items()
            if name != "X"
        ),
    ),
    (
        "with the counts most of what is fitted lies in pairs that ten or more users liked both",
        lambda n: n.found["in_strong_pairs"][0] > 0.5 > n.found["in_strong_pairs"][1:].max(),
    ),
    (
        "PPMI gives the frequent pairs the least weight, and finds no fewer than $\\log(1 + X)$",
        lambda n: (
            n.found["in_strong_pairs"].argmin() == list(n.targets).index("PPMI")
            and n.targets["PPMI"].mean() > n.targets["log(1 + X)"].mean()
        ),
    ),
    (
        "The lists share most of their titles",
        lambda n: mean_overlap(n.refined.top(n.enough), n.neighbours.top(n.enough)) > 5,
    ),
    (
        "*Home Alone* loses its sequel, which has too few likes to take part",
        lambda n: of_sequel(n) < n.fewest,
    ),
    (
        "the lists of either embedding are far more alike than chance",
        lambda n: all(
            np.nanmean(lists[ours]) > 1.5 * np.nanmean(lists["random"])
            for lists in n.judged.values()
            for ours in ("chosen", "2.3")
        ),
    ),
    ("By genre the chosen lists are a little better", lambda n: gained(n, "genres")[0] > 0),
    (
        "by tags the interval of the difference contains zero",
        lambda n: np.prod(gained(n, "tags")) < 0,
    ),
]
