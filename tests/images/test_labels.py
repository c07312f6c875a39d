"""What raters and the list of copies say about test predictions, counted by hand."""

import csv
import json
from pathlib import Path

import pytest
import torch

from assignment.common import settings
from assignment.images import cifar10, labels
from assignment.images.labels import LabelEvidence, audit
from assignment.images.predictions import Predictions

DATA = settings.data_folder()
# Image 0: confirmed. 1: rejected, class 2 agreed on. 2: rejected and undecided. 5 and 6: copies.
EVIDENCE = LabelEvidence(
    images=torch.tensor([0, 1, 2]),
    others=torch.tensor([1, 2, 0]),
    votes=torch.tensor([[3, 2, 0, 0], [0, 4, 0, 1], [2, 2, 1, 0]]),
    copies=torch.tensor([5, 6]),
)


@pytest.mark.parametrize(("predicted", "expected"), [
    ([0, 1, 2, 0, 1, 2, 0], [(0, 0), (7, 7), (5, 6), (2, 2), (5, 5)]),
    ([0, 2, 0, 0, 1, 2, 1], [(2, 3), (4, 7), (5, 6), (1, 2), (3, 5)]),
    ([1, 1, 1, 0, 1, 0, 1], [(1, 4), (3, 7), (2, 6), (0, 2), (3, 5)]),
])  # fmt: skip
def test_the_audit_counts(predicted: list[int], expected: list[tuple[int, int]]) -> None:
    found = audit(Predictions(torch.eye(3)[predicted], torch.arange(7) % 3), EVIDENCE)
    assert tuple(found) == labels.AUDITED
    assert list(found.values()) == expected


@pytest.mark.usefixtures("sample_mode")
def test_the_sample_has_evidence_of_its_own() -> None:
    found, count = labels.load(), len(cifar10.load().test)
    assert found.votes.sum(1).tolist() == [labels.RATERS] * len(found.images)
    assert 0 < len(found.rejected) < len(found.images)
    assert max(found.images.max(), found.copies.max()) < count


@pytest.mark.needs("real_data", "label_lists")
def test_the_lists_are_read_as_their_authors_wrote_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "recorded")
    folder, found = Path(DATA), labels.load()
    rated = json.loads((folder / labels.RATINGS.name).read_text())
    given = torch.tensor([each["given_original_label"] for each in rated])
    assert torch.equal(cifar10.load().test.labels[found.images], given)
    rejected = [each["id"] for each in rated if each["mturk"]["given"] < 3]
    assert found.rejected.tolist() == rejected
    assert (len(rejected), int((found.votes[:, 1] >= 3).sum())) == (54, 18)
    with (folder / labels.COPIES.name).open() as file:
        assert found.copies.tolist() == [int(row["TestID"]) for row in csv.DictReader(file)]
