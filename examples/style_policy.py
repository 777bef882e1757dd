"""The same answer under four policies: what was requested, and what was spoken."""

from __future__ import annotations

import sys

from emova_sdk import Pipeline, Style
from emova_sdk.policy import StylePolicy

POLICIES = {
    "the model chooses": StylePolicy(),
    "always the default": StylePolicy(rule="fixed"),
    "soothe": StylePolicy(rule="soothe"),
    "never cheerful to a sad user": StylePolicy(never_cheerful_to=("sad",)),
}


def main(config: str = "emova-nano") -> None:
    with Pipeline.from_config(config) as emova:
        question = emova.speak("i lost my dog", style=Style(emotion="sad"))
        for name, policy in POLICIES.items():
            session = emova.session(policy=policy)
            for asked in (None, Style(emotion="happy")):
                turn = session.ask(question, style=asked).turn
                if turn.style and turn.requested_style:
                    who = "the caller" if asked else "the model"
                    wanted, spoken = turn.requested_style, turn.style
                    print(f"{name:30} {who} wants {wanted.emotion:8} spoken: {spoken.emotion}, {spoken.speed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
