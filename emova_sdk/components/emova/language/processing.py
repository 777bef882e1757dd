"""Pictures and text to what `EmovaForConditionalGeneration` reads.

`EmovaProcessor` is a transformers processor. The functions beside it expand the one ``<image>`` of a picture to one id for
each of its rows of features, for single rows and for padded training batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transformers import AutoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PROCESSOR_NAME

from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint
from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.prompts import IMAGE_ID, IMAGE_MARK, tokenize
from emova_sdk.components.emova.language.templates import Template, template
from emova_sdk.components.emova.model_files import read_json
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor


def expand_images(ids: Sequence[int], rows: Iterator[int], *, image_id: int, marker: int = IMAGE_ID) -> list[int]:
    """Repeat each picture's id once for each of its rows of features.

    Args:
        ids: token ids with `marker` for a picture.
        rows: rows of the pictures to come; one is taken for each marker.
        image_id: what stands for a row of features.
        marker: what stands for a picture in `ids`.
    """
    expanded: list[int] = []
    for token in ids:
        expanded += [image_id] * next(rows) if token == marker else [token]
    return expanded


def chat_template(form: Template) -> str | None:
    """A conversation template as Jinja, the form transformers keeps beside a tokenizer; None where there is no such form.

    Messages have text or lists of `{"type": "text" | "image"}`; pictures come before the text, as in training.

    Args:
        form: of layout `marked` or `colon`.
    """
    if form.layout not in {"marked", "colon"} or form.examples:
        return None
    mark = "" if form.layout == "marked" else ": "
    words = {
        "system": form.system + form.sep,
        "header": form.header,
        "sep": form.sep,
        "end": form.end_of_turn,
        "user": form.user + mark,
        "assistant": form.assistant + mark,
        "prompt": form.assistant + mark.rstrip(),
        "image": f"{IMAGE_MARK}\n",
    }
    quoted = {name: json.dumps(text, ensure_ascii=False) for name, text in words.items()}
    return _CHAT.format_map(quoted)


_CHAT = """\
{{%- macro said(content) -%}}
{{%- if content is string -%}}{{{{ content }}}}
{{%- else -%}}
{{%- for part in content if part.type == "image" -%}}{{{{ {image} }}}}{{%- endfor -%}}
{{%- for part in content if part.type == "text" -%}}{{{{ part.text }}}}{{%- endfor -%}}
{{%- endif -%}}
{{%- endmacro -%}}
{{%- if messages and messages[0].role == "system" -%}}{{{{ {header} + said(messages[0].content) + {sep} }}}}
{{%- else -%}}{{{{ {system} }}}}{{%- endif -%}}
{{%- for message in messages if message.role != "system" -%}}
{{%- if message.role == "assistant" -%}}{{{{ {assistant} + said(message.content) + {end} }}}}
{{%- else -%}}{{{{ {user} + said(message.content) + {sep} }}}}{{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{ {prompt} }}}}{{%- endif -%}}"""


class EmovaProcessor(ProcessorMixin):
    """Tokenizer and image processor in one, as transformers expects of a model that sees.

    Args:
        image_processor: prepares pictures; None for a model without a vision tower.
        tokenizer: a fast tokenizer of transformers.
        chat_template: Jinja template of a conversation.
        image_token: what stands for a picture in a text.
    """

    def __init__(
        self,
        image_processor: EmovaImageProcessor | None = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        image_token: str = IMAGE_MARK,
        **kwargs: Any,  # noqa: ARG002 - what later versions may have saved
    ) -> None:
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is passed on
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> Any:
        """As in transformers; a published checkpoint, which names no such processor, gets the one of its configuration."""
        folder = find_checkpoint(pretrained_model_name_or_path, revision=kwargs.get("revision"), weights=False)
        saved = folder / PROCESSOR_NAME
        if saved.is_file() and read_json(saved).get("processor_class") == cls.__name__:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        return cls.from_checkpoint(Checkpoint.open(folder))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> EmovaProcessor:
        """The processor of a checkpoint, with the image settings saved beside the weights where there are any."""
        image_processor = None
        if checkpoint.config.vision_config is not None:
            image_processor = EmovaImageProcessor.from_config(checkpoint.config, _image_settings(checkpoint.folder))
        written = getattr(checkpoint.tokenizer, "chat_template", None)
        if written is None and checkpoint.template is not None:
            written = chat_template(template(checkpoint.template))
        return cls(image_processor, checkpoint.tokenizer, chat_template=written)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - what transformers leaves open is named
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: str | None = "pt",
        padding: Any = True,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare texts and the pictures in them.

        Args:
            images: the pictures of all texts, in order of their marks.
            text: one text or several, with `image_token` for each picture.
            return_tensors: type of the tensors.
            padding: as in transformers; on the side the tokenizer was saved with.
            **kwargs: passed to the tokenizer's `pad`, where it knows them. Of what other processors read, sound is refused.

        Returns:
            `input_ids`, `attention_mask` and what the image processor returns.

        Raises:
            ValueError: the marks and the pictures do not agree in number, or there is sound.
        """
        if kwargs.get("audio"):
            raise ValueError("EMOVA reads speech as units: write those of the speech tokenizer into the text")
        texts = [text] if isinstance(text, str) else list(text or [self.image_token])
        data: dict[str, Any] = {}
        rows: list[int] = []
        if images is not None and not (isinstance(images, Sequence) and not images):
            processor = cast("EmovaImageProcessor", self.image_processor)
            prepared = processor(cast("Any", images), return_tensors=return_tensors)
            rows = processor.tokens_of(prepared)
            data |= dict(prepared)
        marks = sum(one.count(self.image_token) for one in texts)
        if marks != len(rows):
            raise ValueError(f"the texts have {marks} `{self.image_token}` for {len(rows)} pictures")
        waiting = iter(rows)
        ids = [expand_images(tokenize(one, self.tokenizer).ids, waiting, image_id=self.image_token_id) for one in texts]
        known = {name: kwargs[name] for name in ("max_length", "padding_side", "pad_to_multiple_of") if name in kwargs}
        padding = padding if len(ids) > 1 else False
        padded = self.tokenizer.pad({"input_ids": ids}, padding=padding, return_tensors=return_tensors, **known)
        return BatchFeature(data={**padded, **data}, tensor_type=None)

    @property
    def model_input_names(self) -> list[str]:
        """Names of all tensors this processor may return."""
        vision = self.image_processor.model_input_names if self.image_processor is not None else []
        return ["input_ids", "attention_mask", *vision]


def _image_settings(folder: Path) -> Mapping[str, Any]:
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            raw = read_json(folder / name)
            return raw.get("image_processor") or (raw if name.startswith("pre") else {})
    return {}


AutoProcessor.register(EmovaConfig, EmovaProcessor, exist_ok=True)
