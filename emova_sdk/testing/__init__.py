"""For those who test: stand-ins for all five slots, and the conformance kit that every component must pass.

`emova_sdk.testing.fakes` and `emova_sdk.testing.conformance` are public; what the kit is made of is in the other modules.
"""

from emova_sdk.testing.conformance import Check, CheckFailed, CheckResult, Samples, checks_for, conformance, run_checks
from emova_sdk.testing.end_of_turn_rules import check_end_of_turn
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVisionEncoder, FakeVocoder

__all__ = [
    "Check",
    "CheckFailed",
    "CheckResult",
    "FakeLLMCore",
    "FakeSpeechTokenizer",
    "FakeStyleModule",
    "FakeVisionEncoder",
    "FakeVocoder",
    "Samples",
    "check_end_of_turn",
    "checks_for",
    "conformance",
    "run_checks",
]
