"""Names by which a cache tells one pipeline from another."""

from __future__ import annotations

import threading
import weakref
from typing import Any
from uuid import uuid4

from emova_sdk.pipeline import Pipeline

_names: dict[int, tuple[weakref.ref[Any], str]] = {}
_naming = threading.Lock()


def name_of(thing: object) -> str:
    """Return a name that no other object has, in this process or another, and that stays the same while ``thing`` lives."""
    with _naming:
        known = _names.get(id(thing))
        if known is None or known[0]() is not thing:
            for gone in [key for key, (alive, _) in _names.items() if alive() is None]:
                del _names[gone]
            # by its id, since a component may be unhashable; an id is used again once its object is gone
            known = _names[id(thing)] = (weakref.ref(thing), uuid4().hex)
        return known[1]


def identity_of(pipeline: Pipeline) -> dict[str, str]:
    """Return what decides how a pipeline answers: its parts by name, and its settings.

    Two pipelines are never taken for each other, those of one config included: weights, endpoints and keys behind a config
    may change, and cannot be compared here. Nothing of the components' options is told, which may hold keys.
    """
    return {
        "pipeline": name_of(pipeline),
        **{slot: name_of(part) for slot, part in pipeline.slots().items()},
        "style": repr(pipeline.style),
        "policy": repr(pipeline.policy),
    }
