"""The conformance kit: what every component must do, as checks anyone can run on their own.

In a test::

    @conformance(lambda: MyVocoder())
    def test_my_vocoder(check):
        check.run()

Anywhere: ``for result in run_checks(MyVocoder): print(result.name, result.passed, result.message)``, or on the command
line ``emova components check``. A check is one rule of `emova_sdk.components.base`; when it fails, the message says what was
found and what to do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emova_sdk.components.base import SLOTS, Component
from emova_sdk.testing.rules import COMMON_RULES, Rule
from emova_sdk.testing.slot_rules import SLOT_RULES
from emova_sdk.testing.subject import CheckFailed, Samples, Subject

__all__ = ["Check", "CheckFailed", "CheckResult", "Samples", "checks_for", "conformance", "run_checks"]


@dataclass(frozen=True)
class Check:
    """One rule, ready to be run on one component.

    Attributes:
        name: E.g. ``stream_equals_batch``.
        rule: What must hold, one sentence.
        advice: What to do when it does not.
    """

    name: str
    rule: str
    advice: str
    _rule: Rule
    _subject: Subject

    def run(self) -> None:
        """Run it.

        Raises:
            CheckFailed: If the rule does not hold; the text says what was found and what to do.
        """
        try:
            self._rule(self._subject)
        except CheckFailed as error:
            raise CheckFailed(f"{error}\nrule: {self.rule}\nto do: {self.advice}") from error
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise CheckFailed(f"the component raised {what}\nrule: {self.rule}\nto do: {self.advice}") from error


@dataclass(frozen=True)
class CheckResult:
    """What came of a check: ``message`` is empty when it passed, and the reason when it was skipped."""

    name: str
    rule: str
    passed: bool
    skipped: bool = False
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        facts = ("name", "rule", "passed", "skipped", "message")
        return {fact: getattr(self, fact) for fact in facts}


def checks_for(component: Component | Callable[[], Component], *, samples: Samples | None = None) -> list[Check]:
    """Return the checks that apply to a component.

    Args:
        component: A component, or better: its class or a function that makes one, so that construction is checked as well.
        samples: Inputs to use where the made-up ones do not suit, e.g. style vectors a vocoder was trained on.
    """
    subject = Subject(component, samples or Samples())
    rules = [*COMMON_RULES, *SLOT_RULES[subject.slot]]
    return [Check(rule.__name__, *_explained(rule), rule, subject) for rule in rules]


def run_checks(
    component: Component | Callable[[], Component],
    *,
    samples: Samples | None = None,
    skip: Mapping[str, str] | None = None,
) -> list[CheckResult]:
    """Run all checks and report each.

    Args:
        component: A component, its class, or a function that makes one.
        samples: See `checks_for`.
        skip: Checks left out, by name, each with its reason.
    """
    reasons = dict(skip or {})
    results: list[CheckResult] = []
    for check in checks_for(component, samples=samples):
        if check.name in reasons:
            results.append(CheckResult(check.name, check.rule, passed=False, skipped=True, message=reasons[check.name]))
            continue
        try:
            check.run()
            results.append(CheckResult(check.name, check.rule, passed=True))
        except CheckFailed as error:
            results.append(CheckResult(check.name, check.rule, passed=False, message=str(error)))
    return results


def conformance(
    factory: Callable[[], Component], *, samples: Samples | None = None, known_failures: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Any]:
    """Parametrise a pytest function with the checks of a component; its argument is called ``check``.

    Args:
        factory: Makes the component; a class will do.
        samples: See `checks_for`.
        known_failures: Checks expected to fail, by name, each with its reason; one that passes is reported.
    """
    import pytest

    reasons = dict(known_failures or {})
    parameters = [
        pytest.param(
            check, id=check.name, marks=[pytest.mark.xfail(reason=reasons[check.name])] if check.name in reasons else []
        )
        for check in checks_for(factory, samples=samples)
    ]
    return pytest.mark.parametrize("check", parameters)


def _explained(rule: Rule) -> tuple[str, str]:
    text = inspect.getdoc(rule) or ""
    first, _, rest = text.partition("\n\n")
    return first, " ".join(rest.split())


if set(SLOT_RULES) != set(SLOTS):  # a slot without rules would pass everything
    raise RuntimeError("a slot has no conformance rules")
