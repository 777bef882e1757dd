"""Every error the SDK raises on purpose.

::

    EmovaError                        message: what happened; hint: one action that helps
    ├── ConfigError                   a config file, an option or a wiring is wrong
    │   ├── UnknownComponentError     no such component, preset or slot
    │   └── IncompatibleComponentsError   two components do not speak the same space
    ├── InputError (ValueError)       a value handed to the SDK cannot be used
    │   └── ContextLengthError        a conversation is longer than the model reads
    ├── LoadError                     weights or files are missing, broken or mismatched
    │   └── MissingDependencyError (ImportError)
    ├── BackendError                  a component failed while working; ``retryable`` says whether to try again
    │   └── EmptyAnswerError          a model ended its answer without saying anything or calling a tool
    └── ExportError                   a graph could not be exported
        └── ParityError               an exported graph disagrees with the original

The message says what happened, with literals in backticks; the hint is one action; facts are attributes.
"""

from __future__ import annotations

import copyreg

__all__ = [
    "BackendError",
    "ConfigError",
    "ContextLengthError",
    "EmovaError",
    "EmptyAnswerError",
    "ExportError",
    "IncompatibleComponentsError",
    "InputError",
    "LoadError",
    "MissingDependencyError",
    "ParityError",
    "UnknownComponentError",
]


class EmovaError(Exception):
    """Base of all errors of the SDK.

    Attributes:
        message: What happened, one sentence.
        hint: One action that would help, or an empty string.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # an error that crosses processes keeps its facts, also those its constructor insists on
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ConfigError(EmovaError):
    """A config file, an option or a wiring is wrong."""


class UnknownComponentError(ConfigError):
    """A component, preset or slot was named that does not exist.

    Attributes:
        name: The name that was asked for.
        available: The names that exist.
    """

    def __init__(self, message: str, hint: str = "", *, name: str = "", available: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.name = name
        self.available = available


class IncompatibleComponentsError(ConfigError):
    """Two components were wired together that do not speak the same space.

    Attributes:
        writer: Slot that produces.
        reader: Slot that consumes.
    """

    def __init__(self, message: str, hint: str = "", *, writer: str = "", reader: str = "") -> None:
        super().__init__(message, hint)
        self.writer = writer
        self.reader = reader


class InputError(EmovaError, ValueError):
    """A value handed to the SDK cannot be used."""


class ContextLengthError(InputError):
    """A conversation is longer than the model reads. A session leaves the oldest of it out and asks again.

    Attributes:
        tokens: Length of the conversation, 0 where it is not known.
        limit: What the model reads, 0 where it is not known.
    """

    def __init__(self, message: str, hint: str = "", *, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(message, hint)
        self.tokens = tokens
        self.limit = limit


class LoadError(EmovaError):
    """Weights or files are missing, broken or do not match.

    Attributes:
        path: The file concerned, if one is.
        tensor: The tensor concerned, if one is.
    """

    def __init__(self, message: str, hint: str = "", *, path: str = "", tensor: str = "") -> None:
        super().__init__(message, hint)
        self.path = path
        self.tensor = tensor


class MissingDependencyError(LoadError, ImportError):
    """An optional package is needed and not installed.

    Attributes:
        package: What to install.
    """

    def __init__(self, message: str, hint: str = "", *, package: str = "") -> None:
        super().__init__(message, hint)
        self.package = package


class BackendError(EmovaError):
    """A component failed while working.

    Attributes:
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(message, hint)
        self.retryable = retryable


class EmptyAnswerError(BackendError):
    """A model ended its answer without saying anything or calling a tool.

    Attributes:
        finish_reason: Why it ended, in the endpoint's word; empty where it gives none.
    """

    def __init__(self, message: str, hint: str = "", *, retryable: bool = True, finish_reason: str = "") -> None:
        super().__init__(message, hint, retryable=retryable)
        self.finish_reason = finish_reason


class ExportError(EmovaError):
    """A graph could not be exported."""


class ParityError(ExportError):
    """An exported graph disagrees with the original.

    Attributes:
        output: Name of the output that disagrees.
        max_abs_diff: Largest absolute difference found.
        atol: Largest absolute difference allowed.
    """

    def __init__(self, message: str, hint: str = "", *, output: str, max_abs_diff: float, atol: float) -> None:
        super().__init__(message, hint)
        self.output = output
        self.max_abs_diff = max_abs_diff
        self.atol = atol
