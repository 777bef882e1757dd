"""Judging nano's hearing and speaking: phone errors, unit statistics, probes, and an independent recogniser.

Every figure comes with its n and a 95 % interval; accuracies with the share of the majority class.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emova_sdk.evaluation.intervals import interval
from emova_sdk.evaluation.text_metrics import edit_distance


def rate(errors: Sequence[float], sizes: Sequence[float]) -> dict[str, Any]:
    """A rate over utterances as JSON: value, interval, n."""
    value = float(np.sum(errors) / max(np.sum(sizes), 1e-9))
    return {"value": round(value, 4), "interval": [round(v, 4) for v in interval(errors, sizes)], "n": len(errors)}


def accuracy(truth: Sequence[Any], found: Sequence[Any]) -> dict[str, Any]:
    """Share of agreement as JSON, with the share of the majority class."""
    hits = [float(a == b) for a, b in zip(truth, found, strict=True)]
    majority = max(Counter(truth).values()) / max(len(truth), 1)
    return {**rate(hits, [1.0] * len(hits)), "majority": round(majority, 4)}


def entropy(counts: Counter[Any]) -> float:
    """Entropy in bits of a distribution given by counts."""
    share = np.array(list(counts.values()), float)
    share /= share.sum()
    return float(-(share * np.log2(share)).sum())


def conditional_entropy(pairs: Sequence[tuple[Any, Any]]) -> float:
    """H(second | first) in bits, from counts."""
    joint, first = Counter(pairs), Counter(a for a, _ in pairs)
    return entropy(joint) - entropy(first)


def probe(
    train: tuple[NDArray[np.float32], Sequence[str]], test: tuple[NDArray[np.float32], Sequence[str]], *, steps: int = 300
) -> dict[str, Any]:
    """Accuracy of a linear classifier on pooled features (utterances, dims): how much of a label they give away."""
    names = sorted({*train[1], *test[1]})
    mean, spread = train[0].mean(0), train[0].std(0) + 1e-3
    inputs = torch.from_numpy(((train[0] - mean) / spread).astype(np.float32))
    classes = torch.tensor([names.index(name) for name in train[1]])
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(inputs.shape[1], len(names), generator=generator) * 0.01).requires_grad_()
    bias = torch.zeros(len(names), requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=0.02, weight_decay=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(inputs @ weight + bias, classes).backward()
        optimizer.step()
    logits = torch.from_numpy(((test[0] - mean) / spread).astype(np.float32)) @ weight.detach() + bias.detach()
    return accuracy(list(test[1]), [names[i] for i in logits.argmax(-1).tolist()])


class WordJudge:
    """An independent recogniser, pocketsphinx: general, or with a language model of given sentences.

    Args:
        sentences: Texts of the domain, without those that are judged; None for the general model.
        folder: Where the domain language model is written.
    """

    def __init__(self, sentences: Sequence[str] | None = None, *, folder: str = ".") -> None:
        from emova_sdk.errors import MissingDependencyError

        try:
            decoder: Any = import_module("pocketsphinx").Decoder
        except ImportError as error:
            raise MissingDependencyError(
                "judging speech needs `pocketsphinx`", "install emova-sdk[eval]", package="pocketsphinx"
            ) from error
        options: dict[str, Any] = {"samprate": 16000, "loglevel": "FATAL"}
        if sentences is not None:
            options["lm"] = _domain_model(sentences, folder)
        self._decoder = decoder(**options)

    def write_down(self, samples: NDArray[np.float32]) -> str:
        """Words heard in float32 samples at 16 kHz."""
        sound = np.pad(np.clip(samples, -1, 1), 1600)
        self._decoder.start_utt()
        self._decoder.process_raw((sound * 32000).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        said = self._decoder.hyp()
        return said.hypstr if said else ""


def _domain_model(sentences: Sequence[str], folder: str) -> str:
    import subprocess
    import sys
    from pathlib import Path

    text, model = Path(folder, "domain.txt"), Path(folder, "domain.arpa")
    text.write_text("\n".join(f"<s> {s} </s>" for s in sentences), encoding="utf-8")
    command = [sys.executable, "-m", "pocketsphinx.lm", "-s", str(text), "-o", str(model)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - fixed program, no shell
    return str(model)


def word_errors(
    texts: Sequence[str], sounds: Sequence[NDArray[np.float32]], write_down: Callable[[NDArray[np.float32]], str]
) -> dict[str, Any]:
    """Word error rate of sounds that should say the texts."""
    pairs = [(text.split(), write_down(sound).split()) for text, sound in zip(texts, sounds, strict=True)]
    return rate([edit_distance(a, b) for a, b in pairs], [len(a) for a, _ in pairs])
