"""Error rates, normalisers, style scores and judge prompts, as published for EMOVA.

Rates are over a whole corpus: the edits of all pairs over the length of all references.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from emova_sdk.errors import InputError, MissingDependencyError
from emova_sdk.evaluation.chinese_text import normalise_chinese

Normaliser = Callable[[str], str]
LONGEST_HYPOTHESIS = 1000
"""Characters beyond which the published ASR score leaves a pair out."""


class ErrorRate(NamedTuple):
    """Edits per item of the references.

    Attributes:
        rate: ``errors / total``; 0 where there is nothing to compare.
        errors: Insertions, deletions and substitutions.
        total: Words or characters of the references.
    """

    rate: float
    errors: int
    total: int


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], *, normalise: Normaliser | None = None) -> ErrorRate:
    """Edits between words (what white space separates) over the words of the references.

    Raises:
        InputError: The two sequences differ in length.
    """
    return _error_rate(references, hypotheses, normalise, str.split)


def character_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, normalise: Normaliser | None = None
) -> ErrorRate:
    """Edits between characters, white space included, over the characters of the references.

    Raises:
        InputError: The two sequences differ in length.
    """
    return _error_rate(references, hypotheses, normalise, list)


def edit_distance(reference: Sequence[Hashable], found: Sequence[Hashable]) -> int:
    """Insertions, deletions and substitutions between two sequences.

    Raises:
        MissingDependencyError: The package ``rapidfuzz`` is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise MissingDependencyError(
            "error rates need the package `rapidfuzz`", 'install it with `pip install "emova-sdk[eval]"`', package="rapidfuzz"
        ) from error
    return Levenshtein.distance(reference, found)


def _error_rate(
    references: Sequence[str],
    hypotheses: Sequence[str],
    normalise: Normaliser | None,
    split: Callable[[str], list[str]],
) -> ErrorRate:
    if len(references) != len(hypotheses):
        raise InputError(
            f"{len(references)} references do not match {len(hypotheses)} hypotheses", "pass one hypothesis for each reference"
        )
    errors = total = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted, got = (split(normalise(text) if normalise else text) for text in (reference, hypothesis))
        errors += edit_distance(wanted, got)
        total += len(wanted)
    return ErrorRate(errors / total if total else 0.0, errors, total)


def asr_error_rate(references: Sequence[str], hypotheses: Sequence[str], *, unit: str = "word") -> ErrorRate:
    """Score transcripts as the published LibriSpeech figures are: no normaliser, endless hypotheses left out.

    Args:
        references: What was said.
        hypotheses: What was recognised; a pair whose hypothesis has over 1000 characters does not count.
        unit: ``word`` or ``character``.

    Raises:
        InputError: The two sequences differ in length.
    """
    measure = {"word": word_error_rate, "character": character_error_rate}[unit]
    if len(references) != len(hypotheses):
        return measure(references, hypotheses)
    kept = [pair for pair in zip(references, hypotheses, strict=True) if len(pair[1]) <= LONGEST_HYPOTHESIS]
    return measure([reference for reference, _ in kept], [hypothesis for _, hypothesis in kept])


def dialogue_wer(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Score English transcripts of spoken questions: lower case, ASCII punctuation removed."""
    return word_error_rate(references, hypotheses, normalise=_plain_english)


def dialogue_cer(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Score Chinese transcripts of spoken questions: numbers read out, punctuation and spaces removed."""
    return character_error_rate(references, hypotheses, normalise=normalise_chinese)


def _plain_english(text: str) -> str:
    return text.lower().translate(str.maketrans("", "", string.punctuation))


def normalise_english(text: str) -> str:
    """Write English as Whisper's evaluation compares it: spelling, contractions, numbers, fillers.

    Raises:
        MissingDependencyError: The package ``whisper-normalizer`` is not installed.
    """
    return _whisper_normaliser()(text)


@cache
def _whisper_normaliser() -> Normaliser:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise MissingDependencyError(
            "Whisper's English normaliser is not installed",
            'install it with `pip install "emova-sdk[eval]"`',
            package="whisper-normalizer",
        ) from error
    return EnglishTextNormalizer()


# --- style

_FOLDED: Mapping[str, str] = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}


def fold_emotion(emotion: str) -> str:
    """Fold the seven emotions into the four that are scored: neutral, happy, sad, angry."""
    return _FOLDED.get(emotion, emotion)


# --- judge prompts

_NO_PUNCTUATION = (
    "Please note that the evaluated response does not contain punctuation, but you should NOT give lower scores because of "
    "this, i.e., you should try to imagine there are punctuations or you could add them by youself.\n\n"
)
_ANSWER = """\
Please rate the following response based on the criteria of helpfulness, relevance, accuracy, and comprehensiveness. \
Provide an overall score on a scale of 0 to 10, where a higher score indicates better overall performance.

- Helpfulness: How well does the response assist in addressing the question?
- Relevance: How closely does the response align with the question and the ground truth?
- Accuracy: How correct and factual is the response compared to the ground truth?
- Comprehensiveness: How thoroughly does the response cover the aspects of the question?

{note}Here is the question:
{question}

Here is the ground truth response for your reference:
{reference}

Now, please evaluate the following response:
{answer}

Provide your evaluation in JSON format as follows:
{{
    "reason": (str)  // Explanation of the score considering the criteria with no more than 100 words
    "score": (int),  // Overall score from 0 to 10
}}
Only output data in JSON format, no additional output required.
"""
_STYLE = """\
To enhance the capabilities of multimodal large models in voice-based conversations, your task is to analyze the appropriate \
speech emotion and pitch for the assistant's response based on the text content of the user's question and the assistant's \
reply. Additionally, you need to score the assistant's response based on the actual situation.

Here is user's question:
{question}

Here is the assistant's response:
{answer}

Here is the Assistant's Emotion Classification:
{emotion}

Here is the Assistant's Pitch Classification:
{pitch}


Please analyze the appropriate speech emotion and pitch that best match the assistant's response based on the text content of \
the user's question and the assistant's response.

**Emotion:**
First, analyze the assistant's response content and provide the speech emotion category and reason that you believe best \
matches the assistant's response in the voice conversation. \x20
The emotion options can only be selected from the following list: ['neutral', 'happy', 'sad', 'angry']. \x20
Then, analyze whether the "Assistant's Emotion Classification" is appropriate. \x20
If appropriate, the "Assistant's Emotion Classification Score" should be 1; otherwise, it should be 0.

**Pitch:**
First, analyze the assistant's response content and provide the speech pitch category and reason that you believe best \
matches the assistant's response in the voice conversation. \x20
The pitch options can only be selected from the following list: ['low', 'normal', 'high']. \x20
Then, analyze whether the "Assistant's Pitch Classification" is appropriate. \x20
If appropriate, the "Assistant's Pitch Classification Score" should be 1; otherwise, it should be 0.


Provide your evaluation in JSON format as follows:
{{
    "Assistant's Emotion Analysis": (str), // Analyze the response, propose emotion category and give the reason.
    "Assistant's Emotion Classification Score": (int),  // The score should be either 0 or 1, with 1 indicating \
appropriateness and 0 indicating inappropriateness.
    "Assistant's Pitch Analysis": (str), // Analyze the response, propose pitch category and give the reason.
    "Assistant's Pitch Classification Score": (int),  // The score should be either 0 or 1, with 1 indicating \
appropriateness and 0 indicating inappropriateness.
}}
Only output data in JSON format, no additional output required.
"""


def judge_answer_prompt(question: str, reference: str, answer: str, *, punctuation: bool = True) -> str:
    """Return the prompt that asks a judge for a score of 0 to 10.

    Args:
        question: The user's question, as text.
        reference: The right answer.
        answer: The answer to judge.
        punctuation: False for answers transcribed from speech, which have none.
    """
    note = "" if punctuation else _NO_PUNCTUATION
    return _ANSWER.format(note=note, question=question, reference=reference, answer=answer)


def judge_style_prompt(question: str, answer: str, emotion: str, pitch: str) -> str:
    """Return the prompt that asks a judge whether emotion and pitch suit an answer; the emotion is folded into four."""
    return _STYLE.format(question=question, answer=answer, emotion=fold_emotion(emotion), pitch=pitch)
