"""From a name to a component: entry point, import, options checked against the constructor, constructor call.

A component is found under one entry point in the group of its slot, e.g. ``emova_sdk.vocoder``; built-ins use the same
door. The typed signature of its constructor is the schema of its options. Nothing is cached here: what is installed while
the process runs is found.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from emova_sdk.components.base import SLOTS, Component
from emova_sdk.docstrings import describe
from emova_sdk.entry_points import entry_points_of, is_own, is_well_formed, owner_of, summary_of
from emova_sdk.errors import ConfigError, EmovaError, LoadError, MissingDependencyError, UnknownComponentError
from emova_sdk.packages import pip_command

SLOT_MARK = "x-emova-slot"
"""Marks a nested component in the JSON Schema of a constructor."""


@dataclass(frozen=True)
class Option:
    """One option of a component, read from its constructor.

    Attributes:
        name: As written in the config.
        type: The annotation, e.g. ``int`` or ``Literal['cpu', 'cuda']``; a slot's name for a nested component.
        required: Whether there is no default.
        default: What holds when it is left out.
        description: From the ``Args`` section of the docstring.
    """

    name: str
    type: str
    required: bool
    default: Any = None
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        default = self.default if isinstance(self.default, str | int | float | bool | None) else repr(self.default)
        return {
            "name": self.name,
            "type": self.type,
            "required": self.required,
            "default": default,
            "description": self.description,
        }


@dataclass(frozen=True)
class ComponentInfo:
    """What is known of an installed component.

    Attributes:
        slot: Where it fits.
        name: Its ``type`` in a config.
        distribution: The installed package it comes from, with version.
        target: Where its class is, ``module:Class``.
        summary: First line of its docstring.
        options: What its constructor takes.
        error: Why it cannot be used, or an empty string.
    """

    slot: str
    name: str
    distribution: str
    target: str
    summary: str = ""
    options: tuple[Option, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        facts = {key: getattr(self, key) for key in ("slot", "name", "distribution", "target", "summary", "error")}
        return {**facts, "options": [option.to_dict() for option in self.options]}


# --- finding ---


def names(slot: str) -> tuple[str, ...]:
    """Return the names of all components installed for a slot, sorted, without importing any of them.

    Raises:
        UnknownComponentError: If there is no such slot.
    """
    return tuple(sorted(name for name, entries in _entries(slot).items() if is_well_formed(entries[0])))


def components(slot: str | None = None, *, name: str | None = None) -> list[ComponentInfo]:
    """Describe the installed components of one slot or of all, or those of one name.

    All that are described are imported. One that cannot be used is listed with its error.
    """
    return [_describe(*found) for found in _installed(slot) if name in {None, found[1].name}]


def listed(slot: str | None = None) -> list[ComponentInfo]:
    """Describe the installed components without their options; of these, only plug-ins are imported."""
    return [
        _described(entry, one, summary=summary_of(entry)) if is_own(entry) and not error else _describe(one, entry, error)
        for one, entry, error in _installed(slot)
    ]


def component_class(slot: str, name: str) -> type[Component]:
    """Import the class behind a name.

    Raises:
        UnknownComponentError: If the slot or the name does not exist; the hint suggests the nearest.
        MissingDependencyError: If the component needs a package that is not installed.
        LoadError: If its module cannot be imported.
        ConfigError: If the entry point does not name a component of this slot.
    """
    entry = _find(slot, name)
    found = _import(entry, slot)
    if not (isinstance(found, type) and issubclass(found, SLOTS[slot])):
        raise ConfigError(
            f"{slot} `{name}` of {owner_of(entry)} is `{entry.value}`, which is not a {SLOTS[slot].__name__} class",
            f"the plug-in's author should derive it from emova_sdk.{SLOTS[slot].__name__}",
        )
    return found


def suggest(name: str, available: Iterable[str]) -> str:
    """Return a hint: the nearest name, if one is near, and all that exist."""
    options = sorted(available)
    listed = f"choose one of {', '.join(options)}" if options else "none is installed"
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`? {listed}" if near else listed


def _group(slot: str) -> str:
    if slot not in SLOTS:
        raise UnknownComponentError(
            f"there is no slot `{slot}`", suggest(slot, SLOTS), name=slot, available=tuple(sorted(SLOTS))
        )
    return f"emova_sdk.{slot}"


def _entries(slot: str) -> dict[str, list[EntryPoint]]:
    """Return what is offered under each name: one entry point if all is well. The SDK's own comes first."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points_of(_group(slot)), key=is_own, reverse=True):
        others = found.setdefault(entry.name, [])
        if entry.value not in {other.value for other in others}:
            others.append(entry)
    return found


def _installed(slot: str | None) -> list[tuple[str, EntryPoint, str]]:
    """Return slot, entry point and, if it cannot be used whatever it holds, the reason."""
    found: list[tuple[str, EntryPoint, str]] = []
    for one in [slot] if slot else SLOTS:
        for _, entries in sorted(_entries(one).items()):
            for entry in entries:
                error = ""
                if not is_well_formed(entry):
                    error = f"`{entry.name} = {entry.value}` is not of the form name = module:Class"
                elif entry is not entries[0] or not (is_own(entry) or len(entries) == 1):
                    error = _twice(one, entries).message
                found.append((one, entry, error))
    return found


def _find(slot: str, name: str) -> EntryPoint:
    found = _entries(slot)
    if name not in found:  # perhaps installed a moment ago: the import system remembers folders for a while
        importlib.invalidate_caches()
        found = _entries(slot)
    if name not in found:
        available = tuple(sorted(found))
        raise UnknownComponentError(f"there is no {slot} `{name}`", suggest(name, found), name=name, available=available)
    if len(found[name]) > 1 and not is_own(found[name][0]):
        raise _twice(slot, found[name])
    return found[name][0]


def _twice(slot: str, entries: list[EntryPoint]) -> ConfigError:
    owners = " and ".join(owner_of(entry) for entry in entries)
    return ConfigError(f"two packages offer the {slot} `{entries[0].name}`: {owners}", "uninstall one of them")


def _import(entry: EntryPoint, slot: str) -> Any:
    what = f"{slot} `{entry.name}` of {owner_of(entry)}"
    try:
        return entry.load()
    except (KeyboardInterrupt, MissingDependencyError):
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package == entry.module.partition(".")[0]:
            raise LoadError(f"{what} cannot be imported: {error}", "reinstall the package it comes from") from error
        wanted = f'"{entry.dist.name}[{",".join(entry.extras)}]"' if entry.extras and entry.dist else ""
        raise _missing(what, package, f"pip install {wanted}" if wanted else pip_command(package)) from error
    except BaseException as error:  # whatever a plug-in does at import, `sys.exit` included, is reported as one error
        hint = "update or reinstall the package it comes from"
        raise LoadError(f"{what} cannot be imported: {type(error).__name__}: {error}", hint) from error


def _missing(what: str, package: str, command: str) -> MissingDependencyError:
    message = f"{what} needs the package `{package}`, which is not installed"
    return MissingDependencyError(message, f"run {command}", package=package)


def _describe(slot: str, entry: EntryPoint, error: str) -> ComponentInfo:
    if error:
        return _described(entry, slot, error=error)
    try:
        cls = component_class(slot, entry.name)
        summary = (inspect.getdoc(cls) or "").partition("\n")[0]
        return _described(entry, slot, summary=summary, options=_options(cls, entry.name))
    except EmovaError as found:
        return _described(entry, slot, error=found.message)


def _described(entry: EntryPoint, slot: str, **facts: Any) -> ComponentInfo:
    return ComponentInfo(slot, entry.name, owner_of(entry), entry.value, **facts)


# --- the constructor as schema ---


def _parameters(cls: type[Component], name: str) -> dict[str, tuple[Any, Any]]:
    """Return annotation and default of each parameter that can be set by name."""
    try:
        signature = inspect.signature(cls)
        hints = get_type_hints(cls.__init__, include_extras=True)
    except Exception as error:  # evaluating annotations runs whatever is written there
        hint = "the plug-in's author should import the types of the constructor at run time, not under TYPE_CHECKING"
        raise ConfigError(f"`{name}`: an annotation of `{cls.__name__}` cannot be read: {error}", hint) from error
    found: dict[str, tuple[Any, Any]] = {}
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty
        if parameter.name in hints and parameter.kind != parameter.POSITIONAL_ONLY:
            annotation = hints[parameter.name]
            if _slot_of(annotation) or _describable(annotation):
                found[parameter.name] = (annotation, parameter.default)
                continue
        if required:
            raise ConfigError(
                f"`{name}`: parameter `{parameter.name}` of `{cls.__name__}` cannot be set from a config",
                "the plug-in's author should give it a type that TOML can hold, or a default",
            )
    return found


def _describable(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return False
    return True


def _slot_of(annotation: Any) -> str | None:
    """Return the slot a parameter takes a component of: annotated with an interface, or with ``Interface | None``."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        annotation = rest[0] if len(rest) == 1 else None
    return next((slot for slot, interface in SLOTS.items() if annotation is interface), None)


def _model(cls: type[Component], name: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    described = _argument_docs(cls)
    for option, (annotation, default) in _parameters(cls, name).items():
        slot = _slot_of(annotation)
        kind: Any = Annotated[annotation, WithJsonSchema({SLOT_MARK: slot})] if slot else annotation
        value = ... if default is inspect.Parameter.empty else default
        # the alias keeps option names such as `json` or `copy` clear of pydantic's own methods
        fields[f"option_{option}"] = (kind, Field(value, alias=option, description=described.get(option)))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(name, __config__=config, **fields)


def options_schema(slot: str, name: str) -> dict[str, Any]:
    """Return the JSON Schema of a component's options; nested components carry the key `SLOT_MARK`."""
    template = f"#/$defs/{slot}.{name}.{{model}}"
    schema = _model(component_class(slot, name), name).model_json_schema(ref_template=template)
    return {key: value for key, value in schema.items() if key != "title"}


def _options(cls: type[Component], name: str) -> tuple[Option, ...]:
    described = _argument_docs(cls)
    found: list[Option] = []
    for option, (annotation, default) in _parameters(cls, name).items():
        required = default is inspect.Parameter.empty
        kind = _slot_of(annotation) or inspect.formatannotation(annotation).replace("typing.", "").replace("pathlib.", "")
        found.append(Option(option, kind, required, None if required else default, described.get(option, "")))
    return tuple(found)


def _argument_docs(cls: type[Component]) -> dict[str, str]:
    return describe(inspect.getdoc(cls.__init__ if cls.__doc__ is None else cls)).arguments


# --- making ---


def create(slot: str, name: str, options: Mapping[str, Any] | None = None, *, table: str = "") -> Component:
    """Make a component: options checked against the constructor's signature, nested tables made first.

    Args:
        slot: One of the five slots.
        name: The component's ``type``.
        options: What the constructor is given; a nested component is a mapping with its own ``type``.
        table: Where the options come from, for error messages; the slot's name by default.

    Raises:
        UnknownComponentError: If slot or name does not exist.
        ConfigError: If an option is unknown, missing or of the wrong kind; the message names it.
        LoadError: If the component cannot be imported or made.
    """
    table = table or slot
    with _located(table):
        cls = component_class(slot, name)
    given = {option: _nested(cls, name, option, value, table) for option, value in (options or {}).items()}
    arguments = _checked_options(cls, name, given, table) if given or not _works_without_options(cls) else {}
    try:
        with _located(table):
            return cls(**arguments)
    except (EmovaError, KeyboardInterrupt):
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[{table}] `{name}` cannot be made: {error}", f"check the table; {_listed(cls, name)}") from error
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise _missing(f"[{table}] `{name}`", package, pip_command(package)) from error
    except BaseException as error:  # a plug-in's constructor may raise anything, `SystemExit` included
        message = f"[{table}] `{name}` cannot be made: {type(error).__name__}: {error}"
        raise LoadError(message, f"check the table; {_listed(cls, name)}") from error


def _works_without_options(cls: type[Component]) -> bool:
    """Whether nothing has to be checked: the SDK's own constructors are known to be sound, and a schema takes long to build."""
    if not cls.__module__.startswith("emova_sdk."):
        return False
    parameters = inspect.signature(cls).parameters.values()
    return all(one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


def _checked_options(cls: type[Component], name: str, given: dict[str, Any], table: str) -> dict[str, Any]:
    try:
        checked = _model(cls, name).model_validate(given)
    except ValidationError as error:
        raise _option_error(error, cls, name, table) from error
    return {field.removeprefix("option_"): getattr(checked, field) for field in checked.model_fields_set}


@contextmanager
def _located(table: str) -> Generator[None, None, None]:
    """Say in an error where in the config it happened; its class and facts stay as they are."""
    try:
        yield
    except EmovaError as error:
        error.message = f"[{table}] {error.message}"
        raise


def _nested(cls: type[Component], name: str, option: str, value: Any, table: str) -> Any:
    slot = _slot_of(_parameters(cls, name).get(option, (None, None))[0])
    if slot is None or not isinstance(value, Mapping):
        return value
    inner = dict(value)
    if not isinstance(kind := inner.pop("type", None), str):
        raise ConfigError(f"[{table}.{option}] names no component", suggest("", names(slot)).replace("choose", "set `type` to"))
    return create(slot, kind, inner, table=f"{table}.{option}")


def _option_error(error: ValidationError, cls: type[Component], name: str, table: str) -> ConfigError:
    first = error.errors()[0]
    option = ".".join(str(part) for part in first["loc"])
    available = tuple(_parameters(cls, name))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(option, available, n=1)
        guess = f"did you mean `{near[0]}`? " if near else ""
        return ConfigError(f"[{table}] `{name}` has no option `{option}`", f"{guess}{_listed(cls, name)}")
    if first["type"] == "missing":
        return ConfigError(f"[{table}] `{name}` needs the option `{option}`", f"add it to the table; {_listed(cls, name)}")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    message = f"[{table}] option `{option}` of `{name}` is `{str(first['input'])[:80]}`: {reason}"
    return ConfigError(message, f"change it; {_listed(cls, name)}")


def _listed(cls: type[Component], name: str) -> str:
    found = tuple(_parameters(cls, name))
    return f"its options are {', '.join(found)}" if found else "it takes no options"
