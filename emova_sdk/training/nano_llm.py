"""Training of emova-nano's language model in the paper's three stages, at its scale.

1. ``prealign``: pictures and captions, which teach the projector and the model what a feature says.
2. ``align``: omni-modal alignment on image-text and speech-text pairs at once, text being the bridge; there are no pairs of
   image and speech. ``modalities`` leaves one of the two out, for the ablation against bi-modal alignment.
3. ``instruct``: whole turns in the JSON reply format, with emotion and pitch in and out: questions about pictures, small
   talk and tools, typed and spoken, and saying answers aloud.

A stage goes on from the weights of the one before. Data is drawn anew for each step; only speech comes from a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from emova_sdk.components.nano.language import (
    ANSWER,
    IMAGE_TOKENS,
    QUESTION,
    RESULT,
    Language,
    reply_style,
    tool_call,
    user_style,
)
from emova_sdk.components.nano.lexicon import phones as phones_of
from emova_sdk.components.nano.network import NanoModel, load_model, save_model
from emova_sdk.errors import InputError, LoadError
from emova_sdk.models.nano_vision import NanoVisionTower
from emova_sdk.training import dialogue
from emova_sdk.training.budget import Budget, Checkpoint
from emova_sdk.training.dialogue import PICTURE_INTENTS, Sentence, Split
from emova_sdk.training.scenes import CELLS, Scene, Shape, draw, random_scene
from emova_sdk.training.turns import TALK_INTENTS, TOOL_INTENTS, Dialogue, random_mood, random_question, reply_to
from emova_sdk.types import Emotion, Pitch

Stage = Literal["prealign", "align", "instruct"]
Modalities = Literal["both", "image", "speech"]
SIZES = {
    "hidden_size": 224,
    "intermediate_size": 576,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TOKENS_A_STEP = 1_024
POOL = 192
"""Examples sorted by length at a time, so that little is padded."""
PEAK_RATE = {"prealign": 2e-3, "align": 2e-3, "instruct": 2e-3}
MIXTURES: Mapping[Stage, Mapping[str, float]] = {
    "prealign": {"caption": 0.4, "look": 0.6},
    "align": {"caption": 0.05, "look": 0.65, "transcribe": 0.2, "speak": 0.1},
    "instruct": {"look": 0.5, "talk": 0.3, "hear": 0.1, "speak": 0.1},
}
"""Share of examples of each kind."""
NEEDS = {"caption": "image", "look": "image", "talk": None, "transcribe": "speech", "speak": "speech", "hear": "speech"}
_CLOSED_SLOTS = ("thing", "person", "pet", "event", "topic", "name")


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence as units.

    Attributes:
        text: What is said.
        units: Ids, repeats collapsed.
        emotion: How it is said, as is ``pitch``.
        voice: Who says it.
        speakable: Whether the reply voices said it, so that it may teach speaking.
        phones: Its phones, when the file names them.
    """

    text: str
    units: tuple[int, ...]
    emotion: Emotion = "neutral"
    pitch: Pitch = "normal"
    voice: str = ""
    speakable: bool = True
    phones: tuple[str, ...] = ()


@dataclass
class Example:
    """One training sequence: ids, which of them are learnt, and the features of a picture if one is shown."""

    ids: list[int] = field(default_factory=list[int])
    learnt: list[bool] = field(default_factory=list[bool])
    scene: Scene | None = None

    def add(self, ids: list[int], learnt: bool) -> None:
        """Append tokens."""
        self.ids += ids
        self.learnt += [learnt] * len(ids)


class Examples:
    """Draws training sequences.

    Args:
        language: Tokens.
        rng: Draws everything.
        split: Whose slot combinations may be used.
        speech: Utterances; kinds that need them are left out without.
    """

    def __init__(
        self, language: Language, rng: np.random.Generator, *, split: Split = "train", speech: tuple[Utterance, ...] = ()
    ):
        self.language, self.rng, self.split = language, rng, split
        self.speech = speech
        self.speakable = tuple(utterance for utterance in speech if utterance.speakable)
        parsed = ((dialogue.parse_question(said.text), said) for said in speech)
        self.questions = tuple((question, said) for question, said in parsed if question is not None)
        self.within = tuple(said for said in speech if not language.of_words(said.text)[1])
        self.foreign = tuple(said for said in speech if language.of_words(said.text)[1])

    def draw(self, kind: str) -> Example:
        """Draw one example of a kind of `NEEDS`."""
        return getattr(self, kind)()

    def caption(self) -> Example:
        """A picture and a list of what is where."""
        example = self._picture(random_scene(self.rng))
        example.add([self.language.id("<caption>")], False)
        for shape in example.scene.shapes if example.scene else ():
            example.add(described(self.language, shape), True)
        example.add([self.language.id("<end>")], True)
        return example

    def look(self) -> Example:
        """A picture and a few typed questions about it."""
        scene = random_scene(self.rng)
        example = self._picture(scene)
        if self.rng.random() < 0.7:
            example.add([self.language.id("<tools>")], False)
        kinds = sorted(PICTURE_INTENTS)
        weights = np.array([3.0 if "relation" in kind else 1.5 if "count" in kind else 1.0 for kind in kinds])
        for kind in self.rng.choice(kinds, size=3, p=weights / weights.sum()):
            question = random_question(self.rng, self.split, str(kind), scene)
            heard = random_mood(self.rng, question) if self.rng.random() < 0.4 else None
            self._reply(example, reply_to(self.rng, question, scene, heard=heard, offered=True), typed=True)
        return example

    def talk(self) -> Example:
        """One typed remark, question without a picture, or request for a tool."""
        example = Example()
        draw_ = self.rng.random()
        offered = bool(self.rng.random() < 0.9)
        if draw_ < 0.06:
            intents: tuple[str, ...] = tuple(PICTURE_INTENTS)
        else:
            intents = TOOL_INTENTS if draw_ < 0.45 else TALK_INTENTS
        if offered:
            example.add([self.language.id("<tools>")], False)
        if draw_ > 0.92:
            return self._nonsense(example)
        question = random_question(self.rng, self.split, str(self.rng.choice(sorted(intents))))
        if self.rng.random() < 0.2:
            question = self._with_blank(question)
        heard = random_mood(self.rng, question) if self.rng.random() < 0.5 else None
        self._reply(example, reply_to(self.rng, question, None, heard=heard, offered=offered), typed=True)
        return example

    def transcribe(self) -> Example:
        """Speech and its text."""
        said = self._one(self.foreign if self.foreign and self.rng.random() < 0.08 else self.within)
        example = self._speech(said)
        example.add([self.language.id(QUESTION), *self._transcript(said.text)], True)
        example.add([self.language.id(user_style(said.emotion, said.pitch))], True)
        return example

    def hear(self) -> Example:
        """A spoken question, perhaps about a picture, and the whole reply."""
        chosen, sentence = self.rng.random(), None
        if chosen < 0.1 and self.foreign:
            said = self._one(self.foreign)
        elif chosen < 0.2 or not self.questions:
            said = self._one(self.within)
        else:
            sentence, said = self.questions[int(self.rng.integers(len(self.questions)))]
        about_picture = sentence is not None and sentence.intent in PICTURE_INTENTS
        scene = random_scene(self.rng) if self.rng.random() < (0.9 if about_picture else 0.2) else None
        scene = self._worth(scene, sentence) if scene and sentence else scene
        offered = bool(self.rng.random() < 0.9)
        example = self._speech(said, scene)
        if offered:
            example.add([self.language.id("<tools>")], False)
        question = sentence or Sentence(said.text, "unknown", "user/unknown/0")
        turn = reply_to(self.rng, question, scene, heard=(said.emotion, said.pitch), offered=offered)
        self._reply(example, turn, typed=False)
        return example

    def speak(self) -> Example:
        """Phones and the units that say them."""
        return speak_example(self.language, self._one(self.speakable))

    def _one(self, choices: tuple[Utterance, ...]) -> Utterance:
        return choices[int(self.rng.integers(len(choices)))]

    def _worth(self, scene: Scene, sentence: Sentence) -> Scene:
        """Try a few scenes for one that shows what is asked about."""
        for _ in range(6):
            names = {(shape.color, shape.shape) for shape in scene.shapes}
            slots = sentence.slots
            if any(slots.get("color", color) == color and slots.get("shape", shape) == shape for color, shape in names):
                break
            scene = random_scene(self.rng)
        return scene

    def _picture(self, scene: Scene) -> Example:
        example = Example(scene=scene)
        example.add([self.language.id("<image>")] * IMAGE_TOKENS, False)
        return example

    def _speech(self, said: Utterance, scene: Scene | None = None) -> Example:
        example = Example(scene=scene)
        units = self.language.of_units(said.units)
        if self.split == "train":  # a few units are lost or wrong in another voice
            units = [unit for unit in units if self.rng.random() > 0.03]
        example.add([self.language.id("<speech>"), *units, self.language.heard(said.emotion, said.pitch)], False)
        if scene is not None:
            example.add([self.language.id("<image>")] * IMAGE_TOKENS, False)
        return example

    def _transcript(self, text: str) -> list[int]:
        ids, unknown = self.language.of_words(text)
        return [self.language.id("<unknown>")] if unknown else ids

    def _nonsense(self, example: Example) -> Example:
        """Random words, some unknown: nothing to answer."""
        count = int(self.rng.integers(1, 8))
        first, units = self.language.first_word, self.language.first_unit
        words = [int(number) for number in self.rng.integers(first, units, count)]
        blank = 1
        for place in range(count):
            if self.rng.random() < 0.4:
                words[place] = self.language.id(f"<word_{min(blank, 4)}>")
                blank += 1
        example.add([self.language.id(QUESTION), *words], False)
        turn = reply_to(self.rng, Sentence("", "unknown", "user/unknown/0"), None, heard=None, offered=True)
        self._finish(example, turn)
        return example

    def _with_blank(self, question: Sentence) -> Sentence:
        """Replace one free slot by a word that is not known."""
        free = [name for name in question.slots if name in _CLOSED_SLOTS]
        if not free:
            return question
        slots = {**question.slots, free[int(self.rng.integers(len(free)))]: "<word_1>"}
        _, intent, place = question.template_key.split("/")
        text = dialogue.fill(dialogue.QUESTIONS[intent][int(place)], slots)
        return Sentence(text, intent, question.template_key, slots, question.emotion, novel=question.novel)

    def _words(self, text: str) -> list[int]:
        return [self.language.id(word) for word in text.split()]

    def _reply(self, example: Example, turn: Dialogue, *, typed: bool) -> None:
        text = turn.question.text
        words = self._words(text) if typed or turn.question.intent != "unknown" else self._transcript(text)
        example.add([self.language.id(QUESTION), *words], not typed)
        self._finish(example, turn, style_given=typed and turn.heard)

    def _finish(self, example: Example, turn: Dialogue, *, style_given: bool = False) -> None:
        token = self.language.id
        example.add([token(user_style(turn.emotion, turn.pitch))], not style_given)
        if turn.tool is not None:
            example.add([token(tool_call(turn.tool.name)), *self._words(turn.tool.argument), token(RESULT)], True)
            example.add(self._words(turn.tool.result), False)
        example.add([token(ANSWER), *self._words(turn.answer)], True)
        example.add([token(reply_style(turn.reply_emotion, turn.reply_pitch)), token("<end>")], True)


def speak_example(language: Language, said: Utterance) -> Example:
    """The sequence that teaches saying an utterance."""
    example = Example()
    phones = [phone for phone in (said.phones or phones_of(said.text)) if f"/{phone}/" in language.ids]
    example.add([language.id("<speak>"), *language.of_phones(phones), language.id("<units>")], False)
    example.add([*language.of_units(said.units), language.id("<end>")], True)
    return example


def described(language: Language, shape: Shape) -> list[int]:
    """Tokens of a shape: size, colour, shape, row and column."""
    words = (shape.size, shape.color, shape.shape, f"<row_{shape.row + 1}>", f"<column_{shape.column + 1}>")
    return [language.id(word) for word in words]


def align_projector(model: NanoModel, language: Language, tower: NanoVisionTower, *, budget: Budget, share: float, seed: int) -> None:
    """Teach the projector to turn the feature of a cell into the sum of the embeddings of the words that describe it.

    Pictures then speak the language model's own words from the start. Takes ``share`` of the budget.
    """
    rng = np.random.default_rng((seed, 17))
    optimizer = torch.optim.AdamW(model.projector.parameters(), lr=3e-3)
    table = model.core.get_input_embeddings().weight.detach()
    while budget.share < share:
        scenes = [random_scene(rng) for _ in range(24)]
        targets = torch.zeros(len(scenes), CELLS * CELLS, table.shape[1])
        for row, scene in enumerate(scenes):
            for place in range(CELLS * CELLS):
                ids = [language.id(f"<row_{place // CELLS + 1}>"), language.id(f"<column_{place % CELLS + 1}>")]
                targets[row, place] = table[ids].sum(0)
            for shape in scene.shapes:
                targets[row, shape.row * CELLS + shape.column] = table[described(language, shape)].sum(0)
        loss = F.mse_loss(model.projector(see(scenes, tower, rng)), targets.flatten(0, 1)) / table.var()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def read_speech(path: Path | None, *, split: Split = "train") -> tuple[Utterance, ...]:
    """Read utterances from a JSON-lines file: keys of `Utterance`, unknown keys ignored.

    Raises:
        InputError: If a line is not of that form.
    """
    if path is None or not path.exists():
        return ()
    found: list[Utterance] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(utterance_from(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of `{path.name}` ({split}) is not an utterance: {error!r}", "render it again"
            ) from error
    return tuple(found)


def utterance_from(data: Mapping[str, Any]) -> Utterance:
    """Read one utterance."""
    return Utterance(
        text=str(data["text"]),
        units=tuple(int(unit) for unit in data["units"]),
        emotion=data.get("emotion", "neutral"),
        pitch=data.get("pitch", "normal"),
        voice=str(data.get("voice", "")),
        speakable=bool(data.get("speakable", True)),
        phones=tuple(data.get("phones", ())),
    )


def batches(
    examples: Examples, mixture: Mapping[str, float], tower: NanoVisionTower
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield ids (rows, length), labels (-100 where nothing is learnt) and features (rows of all pictures, 128), without end."""
    rng = examples.rng
    kinds = list(mixture)
    shares = np.array([mixture[kind] for kind in kinds])
    while True:
        pool = [examples.draw(str(kind)) for kind in rng.choice(kinds, size=POOL, p=shares / shares.sum())]
        pool.sort(key=lambda example: len(example.ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if (len(groups[-1]) + 1) * len(example.ids) > TOKENS_A_STEP:
                groups.append([])
            groups[-1].append(example)
        for place in rng.permutation(len(groups)):
            yield collate(groups[int(place)], tower, rng)


def collate(group: list[Example], tower: NanoVisionTower, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pad examples to one length and look at their pictures."""
    length = max(len(example.ids) for example in group)
    ids = torch.zeros(len(group), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(group):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        learnt = torch.tensor(example.learnt)
        labels[row, : len(example.ids)][learnt] = ids[row, : len(example.ids)][learnt]
    scenes = [example.scene for example in group if example.scene is not None]
    if not scenes:
        return ids, labels, None
    return ids, labels, see(scenes, tower, rng)


def see(scenes: Sequence[Scene], tower: NanoVisionTower, rng: np.random.Generator) -> Tensor:
    """Draw scenes and look at them: features (rows of all pictures, 128)."""
    pixels = np.stack([draw(scene, rng=rng).pixels for scene in scenes])
    with torch.no_grad():
        return tower(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).flatten(0, 1)


def sequence_loss(model: NanoModel, ids: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
    """Mean cross-entropy of the learnt tokens; the head is applied only where something is learnt."""
    hidden = model.hidden(ids, features)
    targets = labels[:, 1:]
    chosen = targets != -100
    logits = model.core.lm_head(hidden[:, :-1][chosen])
    return F.cross_entropy(logits.float(), targets[chosen])


def rate_at(share: float, peak: float, *, decay: float) -> float:
    """Learning rate: a short rise, a plateau, and a straight way down over the last ``decay`` of the budget."""
    if share < 0.02:
        return peak * (0.1 + 0.9 * share / 0.02)
    return peak * min(1.0, max(0.02, (1 - share) / max(decay, 1e-6)))


def train_stage(
    out: Path,
    stage: Stage,
    *,
    budget_s: float,
    tower: Path,
    units: int,
    speech: Path | None = None,
    start: Path | None = None,
    modalities: Modalities = "both",
    decay: float = 0.25,
    seed: int = 0,
    bfloat16: bool = True,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train one stage and write the model to ``out/llm_core``.

    Args:
        out: Folder of this stage's checkpoint and result; an interrupted run goes on from there.
        stage: Which stage.
        budget_s: CPU seconds.
        tower: Folder of the pretrained vision encoder.
        units: Number of speech units.
        speech: JSON lines of rendered utterances; without it, kinds that need speech are left out.
        start: ``llm_core`` folder of the stage before.
        modalities: Which pairs to align; ``both`` is omni-modal.
        decay: Share of the budget over which the learning rate falls; 0 keeps it up for a stage that follows.
        seed: Of the data and the initial weights.
        bfloat16: Compute in bfloat16 where that is faster; the weights stay float32.
        report: Called every 50 steps with step, share and loss.

    Returns:
        The folder written.
    """
    if stage not in get_args(Stage):
        raise InputError(f"there is no stage `{stage}`", f"the stages are {', '.join(get_args(Stage))}")
    torch.manual_seed(seed)
    language = Language(dialogue.vocabulary(), units)
    model = NanoModel.fresh(language, SIZES)
    if start is not None:
        load_model(start, language, SIZES, model)
    optimizer = Optimizer(model)
    checkpoint = Checkpoint(out / f"llm_{stage}.pt")
    done = checkpoint.load(model, optimizer)
    step, budget = int(done.get("step", 0)), Budget(budget_s, used=done.get("used", 0.0))
    examples = Examples(language, np.random.default_rng((seed, step, len(stage))), speech=read_speech(speech))
    eyes = read_tower(tower)
    if stage == "prealign" and not done:
        align_projector(model, language, eyes, budget=budget, share=0.3, seed=seed)
    supply = batches(examples, usable(MIXTURES[stage], examples, modalities), eyes)
    losses: list[float] = []
    while not budget.spent:
        ids, labels, features = next(supply)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = sequence_loss(model, ids, labels, features)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate_at(budget.share, PEAK_RATE[stage], decay=decay))
        step += 1
        losses.append(loss.item())
        if report and step % 50 == 0:
            report({"step": step, "share": budget.share, "loss": float(np.mean(losses[-50:]))})
        if checkpoint.save_if_due(model, optimizer, step=step, used=budget.used):
            save_model(out / "llm_core", model, language)
    checkpoint.save(model, optimizer, step=step, used=budget.used)
    save_model(out / "llm_core", model, language)
    return out / "llm_core"


def usable(mixture: Mapping[str, float], examples: Examples, modalities: Modalities) -> dict[str, float]:
    """Leave out the kinds of example for which there is no data or that are not wanted."""
    kept = dict(mixture)
    for kind in mixture:
        unwanted = modalities != "both" and NEEDS[kind] not in (None, modalities)
        if unwanted or (NEEDS[kind] == "speech" and not examples.speech) or (kind == "speak" and not examples.speakable):
            del kept[kind]
    if not kept:
        raise InputError("there is no data for this stage", "render speech first, or train the stage with pictures")
    return kept


class Optimizer:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for the rest: far fewer steps than AdamW alone."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "layers" in name]
        others = [p for name, p in named if p.ndim != 2 or "layers" not in name]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0),
        )

    def step(self, rate: float) -> None:
        """Change the weights by their gradients, and forget these."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """States of both."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put the states back."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def read_tower(folder: Path) -> NanoVisionTower:
    """Read a pretrained tower, in float32, for features that are not trained on."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise LoadError(f"there is no vision encoder in `{folder}`", "train the vision stage first")
    weights = {
        name.removeprefix("tower."): value.float() for name, value in load_file(path).items() if name.startswith("tower.")
    }
    tower = NanoVisionTower()
    tower.load_state_dict(weights)
    return tower.eval().requires_grad_(False)
