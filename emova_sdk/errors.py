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
    """Base class of all errors of the SDK.

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
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined] - typeshed leaves it out


class ConfigError(EmovaError):
    """A config file or an option is wrong, or components cannot be combined."""


class UnknownComponentError(ConfigError):
    """A component, preset or slot does not exist.

    Attributes:
        name: The requested name.
        available: The names that exist.
    """

    def __init__(self, message: str, hint: str = "", *, name: str = "", available: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.name = name
        self.available = available


class IncompatibleComponentsError(ConfigError):
    """Two neighbouring components use different spaces.

    Attributes:
        writer: Slot that produces.
        reader: Slot that consumes.
    """

    def __init__(self, message: str, hint: str = "", *, writer: str = "", reader: str = "") -> None:
        super().__init__(message, hint)
        self.writer = writer
        self.reader = reader


class InputError(EmovaError, ValueError):
    """An input cannot be used."""


class ContextLengthError(InputError):
    """A conversation is longer than the model's context. A session leaves out its oldest part and asks again.

    Attributes:
        tokens: Length of the conversation, 0 if unknown.
        limit: Context length of the model, 0 if unknown.
    """

    def __init__(self, message: str, hint: str = "", *, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(message, hint)
        self.tokens = tokens
        self.limit = limit


class LoadError(EmovaError):
    """Weights or files are missing, broken or do not match.

    Attributes:
        path: The file concerned, if any.
        tensor: The tensor concerned, if any.
    """

    def __init__(self, message: str, hint: str = "", *, path: str = "", tensor: str = "") -> None:
        super().__init__(message, hint)
        self.path = path
        self.tensor = tensor


class MissingDependencyError(LoadError, ImportError):
    """A required optional package is not installed.

    Attributes:
        package: The package to install.
    """

    def __init__(self, message: str, hint: str = "", *, package: str = "") -> None:
        super().__init__(message, hint)
        self.package = package


class BackendError(EmovaError):
    """A component failed at run time.

    Attributes:
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, hint: str = "", *, retryable: bool = False) -> None:
        super().__init__(message, hint)
        self.retryable = retryable


class EmptyAnswerError(BackendError):
    """A model's answer contains neither text nor a tool call.

    Attributes:
        finish_reason: The endpoint's reason for ending it; empty if it gives none.
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
