"""Records of before runs had keys: each answers under its config, its numbers as they were."""

import hashlib
import json
from pathlib import Path

import pytest

from assignment.common import runs

TABLE = json.loads(Path(__file__).with_suffix("").with_name("carried_over.json").read_text())
RENAMED = {"optimum": "lowest"}


@pytest.mark.parametrize("old", TABLE)
def test_a_record_was_carried_over_with_its_numbers_untouched(old: str) -> None:
    # A record that is trained anew leaves the table: its numbers are then others.
    arrays = runs.read_run(runs.RECORDS / f"{TABLE[old]['record']}.json").arrays
    digest = hashlib.sha256()
    before = {RENAMED.get(name, name): name for name in arrays if not name.endswith(" labels")}
    for name in sorted(before):  # the labels were added
        digest.update(name.encode() + arrays[before[name]].tobytes())
    assert digest.hexdigest().startswith(TABLE[old]["numbers"])
