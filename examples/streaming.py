"""Stream an answer while it is generated, and stop it half-way: leaving the `with` block cancels the work."""

from __future__ import annotations

import sys

from emova_sdk import AudioDelta, Pipeline, StyleChosen, TextDelta


def main(config: str = "emova-nano") -> None:
    with Pipeline.from_config(config) as emova:
        session = emova.session()

        print("the whole answer:")
        for event in session.respond("tell me a joke"):
            match event:
                case StyleChosen():
                    print(f"  [{event.style.emotion}]", end="")
                case TextDelta():
                    print(event.text, end="", flush=True)
                case AudioDelta():
                    pass  # hand event.audio to a loudspeaker here
                case _:
                    pass

        print("\nonly its beginning:")
        heard_s = 0.0
        with session.respond("what is your name") as response:
            for event in response:
                if isinstance(event, AudioDelta):
                    heard_s += event.audio.duration_s
                if heard_s > 0.3:
                    break
        turn = session.history[-1]
        print(f"  interrupted: {turn.interrupted}, heard: {turn.heard_text!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
