"""A small synthetic stand-in for MovieLens, in its layout and read by the same loader.

Everything is drawn from a seed. Nothing here is a result, and whatever is made from it is labelled
SAMPLE.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from assignment.common.files import AnyPath

USERS, FILMS, COLD = 500, 320, 12
# Well-known films by taste group, so that a reader recognises the neighbours of the queries.
KNOWN = {
    "Adventure|Drama|Thriller": (
        "Apollo 13 (1995)", "Fugitive, The (1993)", "Braveheart (1995)", "Titanic (1997)",
        "Saving Private Ryan (1998)", "Gladiator (2000)", "Speed (1994)", "True Lies (1994)",
    ),
    "Animation|Children|Comedy": (
        "Toy Story (1995)", "Toy Story 2 (1999)", "Finding Nemo (2003)", "Shrek (2001)",
        "Monsters, Inc. (2001)", "Lion King, The (1994)", "Aladdin (1992)", "WALL·E (2008)",
    ),
    "Children|Comedy": (
        "Home Alone (1990)", "Mrs. Doubtfire (1993)", "Big (1988)", "Jumanji (1995)",
        "Liar Liar (1997)", "Matilda (1996)", "Beethoven (1992)", "Santa Clause, The (1994)",
    ),
    "Action|Sci-Fi": (
        "Star Wars: Episode IV - A New Hope (1977)", "Matrix, The (1999)", "Alien (1979)",
        "Terminator 2: Judgment Day (1991)", "Jurassic Park (1993)", "Predator (1987)",
    ),
    "Horror": (),
    "Romance|Drama": (),
    "Western": (),
}  # fmt: skip


def write_movielens(folder: AnyPath, seed: int = 0) -> None:
    """Write movies.csv, ratings.csv and tags.csv in MovieLens' layout.

    Planted: taste groups of users, popularity that falls off steeply, the three query titles among
    films of their own group, and a few films with hardly any ratings. Some have a tag, their first
    genre.
    """
    folder, generator = Path(folder), np.random.default_rng(seed)
    groups = tuple(KNOWN)
    films = [(title, group) for group, titles in KNOWN.items() for title in titles]
    known = len(films)
    for i, year in enumerate(generator.integers(1960, 2016, FILMS - known), start=1):
        group = groups[i % len(groups)]
        films.append((f"{group.split('|')[0]} Feature No. {i} ({year})", group))
    unknown = 1.2 / (2 + np.arange(FILMS - known)) ** 0.45
    popularity = np.append(generator.uniform(0.35, 0.9, known), unknown)
    popularity[-COLD:] = 0.005
    taste = generator.integers(0, len(groups), (USERS, 1))
    fond = taste == np.array([groups.index(group) for _, group in films])
    activity = generator.gamma(4.0, 0.25, (USERS, 1))
    seen = generator.random((USERS, FILMS)) < activity * popularity * np.where(fond, 1.0, 0.3)
    stars = generator.normal(np.where(fond, 4.2, 3.1), 0.8)
    rating = np.clip(np.round(stars * 2) / 2, 0.5, 5.0)
    movies = pd.DataFrame(films, columns=["title", "genres"])
    movies.insert(0, "movieId", movies.index + 1)
    user, film = seen.nonzero()
    columns = {"userId": user + 1, "movieId": film + 1, "rating": rating[user, film]}
    ratings = pd.DataFrame(columns).assign(timestamp=1_000_000_000 + 60 * np.arange(len(user)))
    tags = movies.assign(userId=1, tag=movies["genres"].str.split("|").str[0], timestamp=10**9)
    tags = tags.loc[generator.random(FILMS) < 0.4, ["userId", "movieId", "tag", "timestamp"]]
    movies.to_csv(folder / "movies.csv", index=False, lineterminator="\r\n")
    ratings.to_csv(folder / "ratings.csv", index=False, lineterminator="\r\n")
    tags.to_csv(folder / "tags.csv", index=False, lineterminator="\r\n")
