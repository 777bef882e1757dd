r"""Training data in the published format: read, checked, tokenised with the assistant's words as labels, put in batches.

A file is a JSON list or has one JSON object per line::

    {"id": "1", "image": "cat.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
                                                      {"from": "gpt", "value": "A cat."}]}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import Dataset

from emova_sdk.components.emova.language.prompts import IMAGE_ID, IMAGE_MARK, tokenize
from emova_sdk.components.emova.language.templates import Span, Template, TurnText
from emova_sdk.errors import InputError

log = logging.getLogger(__name__)
IGNORED = -100
"""Label of a token that no loss is computed for."""
_ROLES: Mapping[str, str] = {"human": "user", "gpt": "assistant"}
_LABELS = ("emotion", "pitch", "speaker")


@dataclass(frozen=True)
class ConversationSample:
    """One conversation.

    Attributes:
        id: Its name.
        turns: Roles and texts, the user's first, alternating.
        images: Pictures, relative to a folder; as many as the texts have ``<image>`` marks.
        labels: How the first turn is spoken, as far as the record tells: its keys ``emotion``, ``pitch`` and ``speaker``.
            Nothing is learned from them.
    """

    id: str
    turns: tuple[TurnText, ...]
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def length(self) -> int:
        """Words of all turns, negative without a picture: what batches are grouped by."""
        words = sum(len((text or "").split()) for _, text in self.turns)
        return words if self.images else -words


def read_samples(paths: str | Path | Iterable[str | Path]) -> list[ConversationSample]:
    """Read data files, lists of them, or folders of ``.json`` and ``.jsonl`` files.

    Raises:
        InputError: A file is missing or a record is not of the published format; the message names file and record.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    samples: list[ConversationSample] = []
    for path in map(Path, paths):
        files = sorted(child for child in path.iterdir() if child.suffix in {".json", ".jsonl"}) if path.is_dir() else [path]
        if not files:
            raise InputError(f"`{path}` holds no `.json` or `.jsonl` file", "pass data files or a folder of them")
        for file in files:
            samples += [_sample(record, f"`{file}`, record {number}") for number, record in _records(file)]
    return samples


def _records(path: Path) -> Iterable[tuple[int, Any]]:
    """Yield the records of a file with their number, counted from 1 (of a line in a JSONL file)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", "pass a JSON or JSONL file") from error
    if text.lstrip().startswith("["):
        yield from enumerate(_json(text, f"`{path}`"), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut texts at U+2028 too
        if line.strip():
            yield number, _json(line, f"`{path}`, line {number}")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}", "one JSON list, or one object per line") from error


def _sample(record: Any, where: str) -> ConversationSample:
    if not isinstance(record, dict):
        raise InputError(f"{where} is not an object", 'a record looks like {"id": ..., "conversations": [...]}')
    record = cast("dict[str, Any]", record)
    conversations = record.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise InputError(f"{where} has no `conversations`", "give a list of turns with `from` and `value`")
    turns = [_turn(turn, f"{where}, turn {number}") for number, turn in enumerate(cast("list[Any]", conversations), 1)]
    turns = _from_user(turns)
    for number, (role, _) in enumerate(turns):
        if role != ("user", "assistant")[number % 2]:
            raise InputError(f"{where}: the turns do not alternate", "human and gpt take turns, human first")
    images = _images(record.get("image"), where)
    marks = sum((text or "").count(IMAGE_MARK) for _, text in turns)
    if len(images) != marks:
        raise InputError(f"{where} has {marks} `{IMAGE_MARK}` and {len(images)} pictures", "mark each picture's place once")
    labels = {name: value for name in _LABELS if isinstance(value := record.get(name), str)}
    return ConversationSample(str(record.get("id", where)), tuple(turns), images, labels)


def _from_user(turns: Sequence[TurnText]) -> list[TurnText]:
    """Drop a greeting: conversations begin with the user."""
    return list(turns[1:] if turns and turns[0][0] == "assistant" else turns)


def _turn(turn: Any, where: str) -> TurnText:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str) or turn.get("from") not in _ROLES:
        raise InputError(f"{where} is not a turn", 'a turn looks like {"from": "human" or "gpt", "value": "text"}')
    turn = cast("dict[str, Any]", turn)
    role, text = _ROLES[turn["from"]], cast("str", turn["value"])
    if role == "assistant":
        return "assistant", _unescaped(text, where) if turn.get("re_encode") else text
    return "user", picture_first(text)


def _unescaped(text: str, where: str) -> str:
    """Decode the backslash escapes of a turn marked ``re_encode``."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a broken escape: {error}", "mend it, or drop `re_encode`") from error


def _images(value: Any, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value or []
    if not isinstance(values, list) or not all(isinstance(item, str) for item in cast("list[Any]", values)):
        raise InputError(f"{where}: `image` is not a path", "give a relative path or a list of them")
    return tuple(cast("list[str]", values))


def picture_first(text: str) -> str:
    """Move ``<image>`` to the front on a line of its own; several become one, as in the published loader."""
    if IMAGE_MARK not in text:
        return text
    return f"{IMAGE_MARK}\n{text.replace(IMAGE_MARK, '').strip()}".strip()


class Encoded(NamedTuple):
    """A sample as tokens.

    Attributes:
        ids: Token ids; ``image_id`` stands for a picture.
        labels: The ids a loss is computed for, `IGNORED` elsewhere.
        warning: Why nothing is learned from the sample, or an empty text.
    """

    ids: list[int]
    labels: list[int]
    warning: str = ""


def encode(turns: Sequence[TurnText], form: Template, tokenizer: Any, *, image_id: int = IMAGE_ID) -> Encoded:
    """Tokenise a conversation; labels are the assistant's texts and what closes them.

    A text that contains the closing itself would teach to stop in the middle: nothing is learned from such a sample. In
    the ``plain`` template of the first stage, the user's turn is only the picture and the assistant's is its caption.

    Args:
        turns: Roles and texts; an assistant's greeting at the front is left out.
        form: Template.
        tokenizer: A fast tokenizer of ``transformers``.
        image_id: What stands for a picture.
    """
    turns = _from_user(turns)
    spans = _caption_spans(turns, form) if form.layout == "plain" else form.spans(turns)
    text = "".join(span.text for span in spans)
    tokens = tokenize(text, tokenizer, image_id=image_id)
    learned = _learned_characters(spans)
    labels = [
        token if token != image_id and start < len(learned) and learned[start] else IGNORED
        for token, start in zip(tokens.ids, tokens.starts, strict=True)
    ]
    if form.layout != "plain" and any(form.end_of_turn in (text or "") for _, text in turns):
        return Encoded(tokens.ids, [IGNORED] * len(labels), f"a text contains `{form.end_of_turn.strip()}`, which ends a turn")
    return Encoded(tokens.ids, labels)


def _caption_spans(turns: Sequence[TurnText], form: Template) -> list[Span]:
    if len(turns) != 2 or IMAGE_MARK not in (turns[0][1] or ""):
        raise InputError(f"template `{form.name}` takes a picture and its caption", "use another template for conversations")
    return [Span(IMAGE_MARK, False), Span((turns[1][1] or "") + form.sep, True)]


def _learned_characters(spans: Iterable[Span]) -> bytearray:
    marks = bytearray()
    for span in spans:
        marks += bytes([span.learned]) * len(span.text)
    return marks


class ConversationDataset(Dataset[dict[str, Any]]):
    """Samples as a model of `EmovaForConditionalGeneration` is trained on them.

    An item has ``input_ids`` and ``labels``, int64 (length,), the image token once for each row of picture features, and
    ``pictures``, what the image processor returned, or None.

    Args:
        samples: Conversations.
        form: Template.
        tokenizer: A fast tokenizer of ``transformers``.
        image_id: What stands for a picture's features among the ids.
        image_processor: Prepares pictures; needed where samples have any.
        image_folder: What pictures' paths are relative to.
        max_length: Longer samples are cut at the end, though never inside a picture.
    """

    def __init__(
        self,
        samples: Sequence[ConversationSample],
        form: Template,
        tokenizer: Any,
        *,
        image_id: int,
        image_processor: Any = None,
        image_folder: str | Path = ".",
        max_length: int = 8192,
    ) -> None:
        if image_processor is None and any(sample.images for sample in samples):
            raise InputError("the data have pictures, and the model sees none", "use a model with a vision tower")
        self.samples = list(samples)
        self.form, self.tokenizer, self.image_id = form, tokenizer, image_id
        self.image_processor: Any = image_processor
        self.image_folder, self.max_length = Path(image_folder), max_length

    @property
    def lengths(self) -> list[int]:
        """Words of each sample, negative without a picture."""
        return [sample.length for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        encoded = encode(sample.turns, self.form, self.tokenizer, image_id=self.image_id)
        if encoded.warning:
            log.warning("nothing is learned from sample `%s`: %s", sample.id, encoded.warning)
        pictures, rows = self._pictures(sample)
        ids, labels = expand_labelled(encoded, self.image_id, iter(rows))
        if self.image_id in ids[self.max_length :]:
            raise InputError(
                f"the pictures of sample `{sample.id}` do not fit into {self.max_length} tokens",
                "raise `max_length` or lower `max_pixels`",
            )
        return {
            "input_ids": torch.tensor(ids[: self.max_length]),
            "labels": torch.tensor(labels[: self.max_length]),
            "pictures": pictures,
        }

    def _pictures(self, sample: ConversationSample) -> tuple[Mapping[str, Any] | None, list[int]]:
        if not sample.images:
            return None, []
        from PIL import Image as Pictures

        opened: list[Any] = []
        for name in sample.images:
            try:
                with Pictures.open(self.image_folder / name) as picture:
                    opened.append(picture.convert("RGB"))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"picture `{name}` of sample `{sample.id}` cannot be opened: {error}", "mend the file or drop the sample"
                ) from error
        features = self.image_processor(opened, return_tensors="pt")
        return features, self.image_processor.tokens_of(features)


def expand_labelled(encoded: Encoded, image_id: int, rows: Iterator[int]) -> tuple[list[int], list[int]]:
    """Repeat each picture's token and label once for each of its rows of features; one of `rows` is taken for each picture."""
    ids: list[int] = []
    labels: list[int] = []
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        times = next(rows) if token == image_id else 1
        ids += [token] * times
        labels += [label] * times
    return ids, labels


def collate(items: Sequence[Mapping[str, Any]], *, pad_id: int, side: str = "right") -> dict[str, torch.Tensor]:
    """Put items of a `ConversationDataset` into one batch.

    Args:
        items: Items.
        pad_id: Token that fills short rows.
        side: Where it goes, ``left`` or ``right``.

    Returns:
        ``input_ids``, ``labels``, ``attention_mask``, each (items, length), and the pictures of all items, concatenated.
    """
    longest = max(len(item["input_ids"]) for item in items)

    def padded(name: str, filler: int) -> torch.Tensor:
        rows = torch.full((len(items), longest), filler)
        for row, item in zip(rows, items, strict=True):
            values = item[name]
            row[longest - len(values) if side == "left" else 0 :][: len(values)] = values
        return rows

    lengths = torch.tensor([len(item["input_ids"]) for item in items])[:, None]
    places = torch.arange(longest)[None]
    mask = places >= longest - lengths if side == "left" else places < lengths
    batch = {"input_ids": padded("input_ids", pad_id), "labels": padded("labels", IGNORED), "attention_mask": mask.long()}
    pictures = [item["pictures"] for item in items if item["pictures"] is not None]
    for name in pictures[0] if pictures else ():
        batch[name] = torch.cat([torch.as_tensor(picture[name]) for picture in pictures])
    return batch
