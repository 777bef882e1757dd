"""Detectors of the end of turn that installed packages offer."""

from __future__ import annotations

from emova_sdk.components.end_of_turn import EndOfTurn, LastWord
from emova_sdk.entry_points import entry_points_of, owner_of
from emova_sdk.errors import LoadError, UnknownComponentError
from emova_sdk.registry import suggest
from emova_sdk.types.live_settings import LiveSettings

GROUP = "emova_sdk.end_of_turn"
"""Of entry points: a class or function that makes an `EndOfTurn`, without arguments."""


def detector(settings: LiveSettings) -> EndOfTurn:
    """Return the detector that the settings name, or the built-in one.

    Raises:
        UnknownComponentError: If no installed package offers one of that name.
        LoadError: If it cannot be made.
    """
    name = settings.end_of_turn
    if name is None:
        return LastWord(settings)
    found = {entry.name: entry for entry in entry_points_of(GROUP)}
    if name not in found:
        hint = suggest(name, found)
        raise UnknownComponentError(f"there is no end_of_turn `{name}`", hint, name=name, available=tuple(sorted(found)))
    what = f"end_of_turn `{name}` of {owner_of(found[name])}"
    try:
        made = found[name].load()()
    except Exception as error:
        hint = "update or reinstall the package it comes from"
        raise LoadError(f"{what} cannot be made: {type(error).__name__}: {error}", hint) from error
    if not isinstance(made, EndOfTurn):
        raise LoadError(f"{what} is no `EndOfTurn`", "the plug-in's author should derive it from emova_sdk.live.EndOfTurn")
    return made
