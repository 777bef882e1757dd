"""A stored conversation: resumed later, exported with its audio, and deleted for good."""

from __future__ import annotations

import sys
from pathlib import Path

from emova_sdk import MediaRef, Pipeline, Style
from emova_sdk.memory import SessionStore


def main(config: str = "emova-nano") -> None:
    database = Path("talk.db")
    with Pipeline.from_config(config) as emova:
        with SessionStore(database) as store:
            question = emova.speak("i lost my dog", style=Style(emotion="sad"))
            store.session(emova, "anna").ask(question)

        with SessionStore(database) as store:  # another day, another process
            session = store.session(emova, "anna")
            for turn in session.history:
                kept = f", sound in {turn.audio.uri}" if isinstance(turn.audio, MediaRef) else ""
                print(f"remembered: {turn.role} said `{turn.text}`{kept}")
            session.ask("how are you today")
            store.export("anna", "anna.jsonl", media=True)
            store.forget("anna")
            print(f"after forgetting: {len(store.sessions())} sessions, {len(list(Path().rglob('*.wav')))} sounds")
            store.load("anna.jsonl")
            print(f"from the export: {len(store.turns('anna'))} turns, {len(list(Path().rglob('*.wav')))} sounds")
            print(f"not used for 30 days: {store.retain(days=30) or 'none'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
