"""A small document broken at every place: what a format must bear with, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from swe_srl.formats import Dropped, Malformed
from swe_srl.types import Provenance, Trajectory

WRONG: tuple[Any, ...] = (None, 7, -(2**62), 1.5, "x", "", [], {}, True, [None], [[]], {"": None}, [7], "{", "<")


def broken(value: Any) -> Iterator[Any]:
    """Copies of a JSON value with one place deleted or replaced, at every depth."""
    yield from WRONG
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, inner in places:
        if isinstance(value, dict):
            yield {key: other for key, other in value.items() if key != place}
            yield from ({**value, place: wrong} for wrong in broken(inner))
        else:
            yield value[:place] + value[place + 1 :]
            yield from ([*value[:place], wrong, *value[place + 1 :]] for wrong in broken(inner))


def bears(format: ModuleType, document: Any) -> int:
    """How many broken copies the format claims; raises what it raises, if that is not Malformed."""
    claimed = 0
    for mutant in broken(document):
        if not format.detect(mutant):
            continue
        claimed += 1
        try:
            for item in format.read(mutant, Provenance("x.json", 1, format.name)):
                assert isinstance(item, (Trajectory, Dropped))
        except Malformed:
            pass
    return claimed
