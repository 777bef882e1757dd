"""The comparison of alignments, on speech that nano itself said and a cost of nothing: that it is made, not what it comes to."""

import json
from functools import partial
from itertools import count

import pytest
import torch
from nano_recipe import llm as nano_llm
from nano_recipe.budget import Budget
from nano_recipe.evaluation import ablation as nano_ablation
from rendered import write_work


@pytest.fixture
def work(tmp_path):
    out = write_work(tmp_path / "nano", train=2, test=2)
    (out / "units").mkdir()
    rows = [{"text": text, "units": [3, 9, 4, 7, 5], "kind": "target", "voice": "one"} for text in ("hello", "i lost my dog")]
    (out / "units" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return out


def test_arms_of_equal_cost_are_asked_the_same(emova, work, monkeypatch):
    monkeypatch.setattr(nano_llm, "SPLICED", 4)
    monkeypatch.setattr(nano_ablation, "ARMS", {"both": ("both",), "image then speech": ("image", "speech")})
    # a clock that goes by looks, so that equal cost is an equal number of steps on every machine
    monkeypatch.setattr(nano_llm, "Budget", partial(Budget, clock=count(step=0.05).__next__))
    with torch.random.fork_rng():
        told = emova("eval", "alignment", "--work", str(work), "--budget-s", "0.2", "--cases", "2", "--json").data("eval")
    groups = {row["group"] for row in told["figures"]}
    assert groups == {"aligned on both", "aligned on image then speech"}
    names = [row["name"] for row in told["figures"] if row["group"] == "aligned on both"]
    assert names[0] == "pictures" and "intent heard, unseen voices" in names
    steps = {
        path.parent.relative_to(work / "ablation").as_posix(): torch.load(path, weights_only=True)["counters"]["step"]
        for path in (work / "ablation").rglob("llm_align.pt")
    }
    assert set(steps) == {"both/both", "image_then_speech/image", "image_then_speech/speech"}
    assert steps["image_then_speech/image"] == steps["image_then_speech/speech"] <= steps["both/both"] <= 3
