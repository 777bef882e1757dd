"""Results of an evaluation: shares with their intervals, and what could not be measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        group: What was measured.
        name: Of the figure.
        value: A share: of right answers, or of errors where the name says so.
        low: Lower end of the 95 % interval, as is ``high`` the upper.
        n: Cases.
        guess: What the best constant answer would get; None for error rates.
        ceiling: What the teacher's own audio gets; None where there is no such thing.
    """

    group: str
    name: str
    value: float
    low: float
    high: float
    n: int
    guess: float | None = None
    ceiling: float | None = None


@dataclass
class Card:
    """What was measured.

    Attributes:
        figures: The table.
        facts: Other numbers by name: entropies, seconds of work for a second of sound.
        left_out: What could not be measured, and why.
    """

    figures: list[Figure] = field(default_factory=list[Figure])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    left_out: dict[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        rows = [
            {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(figure).items()}
            for figure in self.figures
        ]
        return {"figures": rows, "facts": self.facts, "left_out": self.left_out}
