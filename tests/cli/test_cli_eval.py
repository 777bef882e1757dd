"""``emova eval nano``: the table, and the names of what could not be measured."""

from collections import Counter

import pytest
from nano_recipe.evaluation import card as nano_card
from rendered import write_work


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return write_work(tmp_path_factory.mktemp("work") / "nano", train=2, test=2)


def test_what_could_be_measured_is_a_table_and_the_rest_is_named(emova, work, tmp_path, monkeypatch):
    monkeypatch.setattr(nano_card, "_add_speech", lambda *_: nano_card.require_speech(None))
    out = tmp_path / "card.md"
    record = emova("eval", "nano", "--work", str(work), "--cases", "3", "--out", str(out), "--json").data("eval")
    groups = Counter(figure["group"] for figure in record["figures"])
    assert {"pictures", "typed turns", "spoken turns", "unseen voices"} <= set(groups)
    assert "no rendered speech" in record["left_out"]["speech"]
    table = out.read_text()
    assert table.startswith("| what | figure |") and "not measured: speech" in table
    assert record["facts"]["turns.turns"] > 0 and record["facts"]["turns.first_audio_s_median"] > 0


def test_a_card_keeps_its_text_around_the_table(emova, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# Mine\n\n<!-- figures -->\nold\n<!-- /figures -->\n\nThe end.\n")
    emova("eval", "nano", "--preset", str(tmp_path), "--out", str(card))
    told = card.read_text()
    assert told.startswith("# Mine\n\n<!-- figures -->\n| what |") and told.endswith("<!-- /figures -->\n\nThe end.\n")
    assert "old" not in told


def test_without_weights_nothing_is_measured_and_said_why(emova, tmp_path):
    done = emova("eval", "nano", "--preset", str(tmp_path), "--out", "card.json")
    assert done.code == 0 and "not measured: pictures and turns" in done.out and "not measured: speech" in done.out
    assert (tmp_path / "card.json").read_text().startswith("{")
