"""How many files a reader of a whole turn opens, and how often he goes from one to another. The bounds only go down."""

from __future__ import annotations

from walk import Walk

from emova_sdk import Audio, Image, Pipeline


def test_a_spoken_turn_of_emova_nano():
    with Pipeline.from_config("emova-nano") as emova:
        session = emova.session()
        session.ask(Audio.example())  # what is made once is made
        with Walk() as walk:
            session.ask(Audio.example(), Image.example())
    assert len(walk.files) <= 46, sorted(walk.files)
    assert walk.moves.total() <= 410, walk.moves.most_common(20)
