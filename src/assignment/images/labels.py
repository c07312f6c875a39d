"""What others found out about the test images: labels that human raters reject, and near-copies.

Two small lists by their authors, which name an image by its place in the official test set. They
are read for an audit of finished predictions and for nothing else.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from assignment.common import settings
from assignment.common.download import RemoteFile, fetch
from assignment.common.settings import Mode
from assignment.images.predictions import Predictions

HOST = "https://raw.githubusercontent.com"
RATINGS = RemoteFile(  # Northcutt, Athalye and Mueller (2021)
    name="cifar10_mturk.json",
    urls=(
        f"{HOST}/cleanlab/label-errors/5457895eee26e49187de5c4d6617b9de6f172221/mturk/"
        "cifar10_mturk.json",
    ),
    sha256="81b2c16c9eee060d6cc2390f6bbce1e0e7be0a050574be5177c9428f3596b5b5",
    size=88_252,
)
COPIES = RemoteFile(  # Barz and Denzler (2020)
    name="duplicates_cifar10.csv",
    urls=(
        f"{HOST}/cvjena/cifair/438ab96be904963f77d07a59f82d2b35e6ab5e6e/meta/"
        "duplicates_cifar10.csv",
    ),
    sha256="4cb7e99a7dfff346082c9d8fa4c2989a196e4a37d1e58f75936046696f1ba6a4",
    size=9_576,
)
RATERS, MAJORITY = 5, 3
AUDITED = ("errors on rejected labels", "all", "corrected", "with a near-copy", "without")


@dataclass(frozen=True)
class LabelEvidence:
    """Votes of five raters on some test images, and the test images with a near-copy in training.

    A rater saw an image and two labels, the given one and another.
    """

    images: Tensor  # int64 [R], the images that were rated
    others: Tensor  # int64 [R], the other label
    votes: Tensor  # int64 [R, 4], for the given label, the other, neither, both
    copies: Tensor  # int64 [K]

    @property
    def rejected(self) -> Tensor:
        """The images whose given label fewer than three raters confirm as the right one."""
        return self.images[self.votes[:, 0] < MAJORITY]


def load() -> LabelEvidence:
    """Read both lists, downloading what is missing; in sample mode invent them."""
    if settings.mode() is Mode.SAMPLE:
        return _invent()
    folder = settings.data_folder()
    text = fetch(RATINGS, folder).read_text(encoding="utf-8")
    rated, copies = pd.json_normalize(json.loads(text)), pd.read_csv(fetch(COPIES, folder))
    votes = rated[["mturk.given", "mturk.guessed", "mturk.neither", "mturk.both"]]
    columns = rated["id"], rated["our_guessed_label"], votes, copies["TestID"]
    return LabelEvidence(*(torch.tensor(column.to_numpy()) for column in columns))


def _invent(rated: int = 12, copied: int = 20) -> LabelEvidence:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.permutation(200)[: rated + copied])
    votes = torch.from_numpy(generator.multinomial(RATERS, [0.3, 0.5, 0.1, 0.1], rated))
    others = torch.from_numpy(generator.integers(0, 10, rated))
    return LabelEvidence(images[:rated], others, votes, images[rated:])


def audit(found: Predictions, evidence: LabelEvidence) -> dict[str, tuple[int, int]]:
    """Count, each time among how many, what the evidence says about test predictions.

    Returns
    -------
    dict of str to (int, int)
        ``errors on rejected labels`` among all errors, and correct predictions: of ``all`` images,
        of those that are left when agreed labels are ``corrected`` and undecided ones left out,
        and of images ``with a near-copy`` in training and ``without``.
    """
    images, sure = torch.arange(len(found.labels)), evidence.votes[:, 1] >= MAJORITY
    rejected, copied = (torch.isin(images, of) for of in (evidence.rejected, evidence.copies))
    labels = found.labels.clone()
    labels[evidence.images[sure]] = evidence.others[sure]
    decided = ~rejected | (labels != found.labels)
    right = found.predicted == labels
    everything = torch.ones_like(rejected)
    counted = rejected, found.correct, right, found.correct, found.correct
    among = ~found.correct, everything, decided, copied, ~copied
    return {
        name: (int((which & some).sum()), int(some.sum()))
        for name, which, some in zip(AUDITED, counted, among, strict=True)
    }
