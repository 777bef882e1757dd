"""The paper's central claim at nano's scale: aligning pictures and speech at once against one of them, at the same cost.

All models start from the same pictures-and-captions stage and use the same CPU seconds for alignment:

* ``both``: image-text and speech-text pairs mixed, text being the bridge (omni-modal alignment, as EMOVA does it);
* ``image`` and ``speech``: only the one kind of pairs (bi-modal alignment);
* ``image then speech``: half of the cost for each, one after the other.

What is asked of them is what alignment teaches: typed questions about pictures, and writing down spoken questions. The models
answer alone: without grammar, scene rules or rejection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.evaluation.figures import Figure
from nano_recipe.evaluation import dialogue as nano_dialogue
from nano_recipe.evaluation.card import heard_questions, require_speech
from nano_recipe.llm import train_stage, write_spoken

if TYPE_CHECKING:
    from nano_recipe.examples import Utterance
    from nano_recipe.llm import Modalities

UNITS = 256
PREALIGN = 0.3
"""Cost of the common start, as a share of the cost of each alignment."""
ARMS: dict[str, tuple[Modalities, ...]] = {
    "both": ("both",),
    "image": ("image",),
    "speech": ("speech",),
    "image then speech": ("image", "speech"),
}
"""What each model is aligned on, one after the other, at equal shares of the cost."""


def compare_alignments(
    work: Path,
    *,
    budget_s: float,
    cases: int = 300,
    seed: int = 0,
    begin: Callable[[str], None] | None = None,
) -> list[Figure]:
    """Train every arm and measure it; what was trained before, in ``work/ablation``, is not trained again.

    Args:
        work: Work folder with rendered speech and its units (`emova train nano`).
        budget_s: CPU seconds for the alignment of each arm.
        cases: Questions of each kind.
        seed: Of data and weights.
        begin: Called with the name of each arm before it is trained.

    Raises:
        InputError: If there is no rendered speech in ``work``.
    """
    questions = {
        f"{kind} voices": heard_questions(require_speech(work), None, unseen=kind == "unseen") for kind in ("seen", "unseen")
    }
    speech = write_spoken(work, units=UNITS)
    folder = work / "ablation"
    common: dict[str, Any] = {"tower": PRESET / "vision_encoder", "units": UNITS, "speech": speech, "decay": 0.25, "seed": seed}
    start = train_stage(folder / "prealign", "prealign", budget_s=PREALIGN * budget_s, **common)
    figures: list[Figure] = []
    for name, steps in ARMS.items():
        if begin is not None:
            begin(name)
        trained = start
        for modalities in steps:
            where = folder / name.replace(" ", "_") / modalities
            cost = budget_s / len(steps)
            trained = train_stage(where, "align", budget_s=cost, start=trained, modalities=modalities, **common)
        figures += _measured(name, trained, questions, cases)
    return figures


def _measured(name: str, model: Path, questions: Mapping[str, Sequence[Utterance]], cases: int) -> list[Figure]:
    alone = NanoLLM(path=str(model), hearing="language_model", check_pictures=False, min_confidence=0.0)
    seen = nano_dialogue.picture_questions(alone, NanoVisionEncoder(), n=cases)["all"]
    scores = {"pictures": seen}
    for kind, utterances in questions.items():
        heard = nano_dialogue.transcripts(alone, utterances, n=cases)
        scores |= {f"{what} heard, {kind}": score for what, score in heard.items()}
    group = f"aligned on {name}"
    return [Figure(group, what, score.share, score.low, score.high, score.n, score.guess) for what, score in scores.items()]
