"""Every config that differs from another in one value."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from assignment.common import runs


def variations(config: Any) -> Iterator[Any]:
    """Change every value in turn, also those of configs within the config."""
    for one in fields(config):
        value = getattr(config, one.name)
        others = variations(value) if is_dataclass(value) else [another(value)]
        for other in others:
            yield replace(config, **{one.name: other})


def another(value: Any) -> Any:
    if isinstance(value, tuple):
        return value + value if value else (7,)
    if value is None or isinstance(value, bool):
        return not value
    return value + ("x" if isinstance(value, str) else 1)


def assert_every_value_counts(config: Any) -> None:
    """Each variation has a key of its own."""
    configs = [config, *variations(config)]
    assert len(configs) > 2
    assert len({runs.request(variations, each).key for each in configs}) == len(configs)
