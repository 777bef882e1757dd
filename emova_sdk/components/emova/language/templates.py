"""Conversation templates: how turns become the one text a language model reads.

Byte for byte those the EMOVA checkpoints were trained and demonstrated with, quirks included: an assistant turn without
text leaves the bare role and no separator, ``glm4`` closes turns with a single character, ``llama_2`` drops the first
separator. `Template.spans` also says which characters a training loss sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from emova_sdk.errors import ConfigError, InputError

Layout = Literal["marked", "colon", "plain", "llama_2", "glm4"]
TurnText = tuple[Literal["user", "assistant"], str | None]
"""A role and its text; None or an empty text leaves the place where the assistant is to write."""


class Span(NamedTuple):
    """A piece of a rendered conversation.

    Attributes:
        text: The characters.
        learned: Whether a training loss sees them: an assistant's text and what closes its turn.
    """

    text: str
    learned: bool


@dataclass(frozen=True)
class Template:
    """How a conversation is written down.

    Attributes:
        name: Its key in `TEMPLATES`.
        layout: How roles, texts and separators are put together.
        header: What precedes the system text.
        system_text: What the assistant is told to be.
        user: Name or marker of the user's role.
        assistant: Name or marker of the assistant's role.
        sep: What closes a turn; the user's only, where ``sep2`` is given.
        sep2: What closes the assistant's turn.
        version: The name under which the published code chose its preprocessing.
        examples: Turns that precede every conversation, the user's first.
    """

    name: str
    layout: Layout
    header: str
    system_text: str
    user: str
    assistant: str
    sep: str
    sep2: str | None = None
    version: str = ""
    examples: tuple[str, ...] = ()

    @property
    def system(self) -> str:
        """The header and the system text, without what closes them."""
        return self.header + self.system_text

    @property
    def end_of_turn(self) -> str:
        """What closes the assistant's turn."""
        return self.sep if self.sep2 is None else self.sep2

    def with_system(self, text: str) -> Template:
        """Return this template telling the assistant something else."""
        return replace(self, system_text=text)

    def render(self, turns: Sequence[TurnText]) -> str:
        """Write a conversation down.

        Args:
            turns: The user's first, then alternating; a last assistant turn of None asks for an answer.

        Raises:
            InputError: Turns do not alternate, or the template cannot hold them.
        """
        return "".join(span.text for span in self.spans(turns))

    def spans(self, turns: Sequence[TurnText]) -> list[Span]:
        """Like `render`, as pieces that say what a training loss sees.

        Raises:
            InputError: Turns do not alternate, or the template cannot hold them.
        """
        for index, (role, _) in enumerate(turns):
            if role != ("user", "assistant")[index % 2]:
                raise InputError(f"turn {index} is `{role}`: turns must alternate, the user first", "drop or merge turns")
        texts = [*self.examples, *(text or "" for _, text in turns)]
        return [span for span in _LAYOUTS[self.layout](self, texts) if span.text]


def _closing(form: Template, index: int) -> str:
    return form.end_of_turn if index % 2 else form.sep


def _marked(form: Template, texts: list[str]) -> list[Span]:
    """``<role>text<sep>``: ChatML, Llama 3, Phi 3."""
    spans = [Span(form.system + form.sep, False)]
    for index, text in enumerate(texts):
        spans.append(Span(form.assistant if index % 2 else form.user, False))
        if text:
            spans.append(Span(text + form.sep, bool(index % 2)))
    return spans


def _colon(form: Template, texts: list[str]) -> list[Span]:
    """``role: text<sep>``: Vicuna, DeepSeek. The space is learned with the text: tokens begin with it."""
    spans = [Span(form.system + form.sep, False)]
    for index, text in enumerate(texts):
        spans.append(Span(f"{form.assistant if index % 2 else form.user}:", False))
        if text:
            spans.append(Span(f" {text}{_closing(form, index)}", bool(index % 2)))
    return spans


def _plain(form: Template, texts: list[str]) -> list[Span]:
    """The user's text alone: captions of the first training stage."""
    if any(texts[1::2]):
        raise InputError(f"template `{form.name}` cannot hold an assistant's text", "use a template with roles")
    return [Span(text + form.sep, False) for text in texts if text]


def _llama_2(form: Template, texts: list[str]) -> list[Span]:
    """``<s>[INST] text [/INST] text </s>``, the system text inside the first instruction, the first ``<s>`` left out."""
    if not texts or not texts[0]:
        raise InputError(f"template `{form.name}` needs a first user text", "start the conversation with a user turn")
    system = f"<<SYS>>\n{form.system}\n<</SYS>>\n\n" if form.system else ""
    spans: list[Span] = []
    for index, text in enumerate(texts):
        if text and index % 2:
            spans.append(Span(f" {text} {form.sep2}", True))
        elif text:
            spans.append(Span(f"{form.sep if index else ''}[INST] {'' if index else system}{text} [/INST]", False))
    return spans


def _glm4(form: Template, texts: list[str]) -> list[Span]:
    """What the published code writes for GLM-4: the second or first character of a role marker closes each turn."""
    opening, marker = form.user.rstrip("\n"), form.assistant
    spans = [Span(form.system + opening, False)]
    for index, text in enumerate(texts):
        if text:
            closing = marker[0] if index % 2 else marker[1]
            spans += [Span("\n", False), Span(text + closing, bool(index % 2))]
    return spans


_LAYOUTS: Mapping[Layout, Callable[[Template, list[str]], list[Span]]] = {
    "marked": _marked,
    "colon": _colon,
    "plain": _plain,
    "llama_2": _llama_2,
    "glm4": _glm4,
}

_CURIOUS_USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
    "polite answers to the user's questions."
)
_CURIOUS_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
    "polite answers to the human's questions."
)
_LLAMA_2_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  Your "
    "answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure "
    "that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not "
    "factually coherent, explain why instead of answering something not correct. If you don't know the answer to a question, "
    "please don't share false information."
)
_MPT_SYSTEM = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
_EXAMPLE = (
    "What are the key differences between renewable and non-renewable energy sources?",
    (
        "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, such as "
        "solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are finite and will "
        "eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between renewable and "
        "non-renewable energy sources:\n"
        "1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are finite "
        "and will eventually run out.\n"
        "2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable sources, "
        "which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n"
        "3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower "
        "operational costs than non-renewable sources.\n"
        "4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than "
        "non-renewable sources.\n"
        "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and "
        "needs, while non-renewable sources are more rigid and inflexible.\n"
        "6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources are "
        "not, and their depletion can lead to economic and social instability.\n"
    ),
)
_CHATML_HEADER = "<|im_start|>system\n"


def _chatml(name: str, system_text: str, *, sep: str, version: str) -> Template:
    user, assistant = "<|im_start|>user\n", "<|im_start|>assistant\n"
    return Template(name, "marked", _CHATML_HEADER, system_text, user, assistant, sep, version=version)


def _vicuna(name: str, version: str) -> Template:
    return Template(name, "colon", "", _CURIOUS_USER, "USER", "ASSISTANT", " ", "</s>", version)


def _vicuna_v0(name: str) -> Template:
    return Template(name, "colon", "", _CURIOUS_HUMAN, "Human", "Assistant", "###", version="Unknown", examples=_EXAMPLE)


def _llama_3() -> Template:
    header, end = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
    opening = "<|begin_of_text|>" + header.format("system")
    roles = header.format("user"), header.format("assistant")
    return Template("llama3", "marked", opening, _CURIOUS_USER, *roles, end, version="llama3")


TEMPLATES: Mapping[str, Template] = {
    form.name: form
    for form in (
        _chatml("qwen2", "You are a helpful assistant.", sep="<|im_end|>\n", version="qwen2"),
        _chatml(
            "qwen2_demo",
            "You are a helpful assistant. Your name is emova, and you are purely developed by the emova Team.",
            sep="<|im_end|>\n",
            version="qwen2_demo",
        ),
        _llama_3(),
        Template(
            "deepseek", "colon", "", _CURIOUS_USER, "<|User|>", "<|Assistant|>", "\n\n", "<｜end▁of▁sentence｜>", "deepseek"
        ),
        Template("plain", "plain", "", "", "", "", "\n", version="plain"),
        _chatml("mpt", _MPT_SYSTEM, sep="<|im_end|>", version="mpt"),
        _chatml("chatml_direct", "Answer the questions.", sep="<|im_end|>", version="mpt"),
        _chatml("mistral_direct", "Answer the questions.", sep="<|im_end|>", version="mpt"),
        Template("mistral_instruct", "llama_2", "", "", "USER", "ASSISTANT", "", "</s>", "llama_v2"),
        Template("llama_2", "llama_2", "", _LLAMA_2_SYSTEM, "USER", "ASSISTANT", "<s>", "</s>", "llama_v2"),
        Template("glm4", "glm4", "[gMASK]<sop>", "", "<|user|>\n", "<|assistant|>", "\n", version="glm4"),
        Template("phi3", "marked", "<|system|>\n", _CURIOUS_USER, "<|user|>\n", "<|assistant|>\n", "<|end|>\n", version="phi3"),
        _vicuna("v1", "v1"),
        _vicuna("vicuna_v1", "v1"),
        _vicuna("vicuna_v1_demo", "v1_demo"),
        _vicuna_v0("v0"),
        _vicuna_v0("default"),
    )
}
"""Every published template by name. ``qwen2`` is the one of the released 3B, 7B and 72B checkpoints."""


def template(name: str) -> Template:
    """Return a published template.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in TEMPLATES:
        raise ConfigError(f"there is no conversation template `{name}`", f"choose one of {', '.join(sorted(TEMPLATES))}")
    return TEMPLATES[name]
