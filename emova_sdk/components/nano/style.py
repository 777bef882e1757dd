"""Style of emova-nano: styles to a dozen prosody numbers, and sound to the style that is heard in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.base import Space, StyleModule
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.familiar import FARTHEST, FILE, Familiar
from emova_sdk.components.nano.features import at_level, log_mel, perception_input
from emova_sdk.components.nano.graph_files import CPU, NanoPart
from emova_sdk.components.nano.prosody import EMOTIONS, PITCHES, SPEAKERS, SPEEDS, Prosody, prosody_for
from emova_sdk.components.nano.shapes import SAMPLE_RATE, STYLE_AXES
from emova_sdk.components.nano.trials import style_trials
from emova_sdk.components.nano.voice_activity import speech_in
from emova_sdk.components.nano.weights import read_config
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.components.trials import Trial
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, PerceivedStyle, Style

STYLE = Space("emova-nano-style", 13)
"""First the speaker, -1 for female and 1 for male; then `Prosody` relative to neutral, scaled to about -1 to 1."""
_SCALES = np.array([4.0, 1.0, 1.5, 1.0, 3.0, 0.4, 5.0, 4.0, 0.5, 0.04, 2.0, 0.05], np.float32)
"""What counts as 1 in each number of a `Prosody`."""
_LOWEST = np.array([-12, 0.1, 0, -4, -8, 0.4, -20, -8, 0, 0, 0, 0.8], np.float32)
_HIGHEST = np.array([12, 3.0, 4, 4, 8, 2.5, 10, 8, 0.9, 0.1, 6, 1.25], np.float32)
_SHORTEST_S = 0.3


def style_vector(speaker: str, prosody: Prosody) -> NDArray[np.float32]:
    """One point of the style space, float32 of shape (13,)."""
    change = (prosody.to_vector() - Prosody().to_vector()) / _SCALES
    return np.concatenate([[1.0 if speaker == "male" else -1.0], change]).astype(np.float32)


def read_style_vector(vector: NDArray[np.float32]) -> tuple[str, Prosody]:
    """The speaker and the manner of a point of the style space, kept within what a voice can do."""
    values = np.nan_to_num(np.asarray(vector, np.float32))
    prosody = Prosody().to_vector() + values[1:13] * _SCALES
    return "male" if values[0] > 0 else "female", Prosody.from_vector(np.clip(prosody, _LOWEST, _HIGHEST))


class NanoStyleModule(NanoPart, StyleModule):
    """Embeds styles by an analytic table and perceives them with a small network.

    Args:
        exported: The graph of an export.
        path: Folder with `config.json`, graph and weights; the shipped one when not given.
        only_familiar: Whether nothing is known of voices unlike those that perception was learnt from (`Familiar`); otherwise
            each voice is judged, people's often wrongly and with high scores.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    style = STYLE
    perceives = True

    place, needs = "style_module", ("style",)

    def __init__(
        self,
        exported: GraphSessions | None = None,
        *,
        path: str | None = None,
        only_familiar: bool = True,
        providers: Sequence[str] = CPU,
        threads: int = 0,
    ) -> None:
        super().__init__(exported, path=path, providers=providers, threads=threads)
        self._only_familiar = only_familiar

    def _configure(self) -> None:
        self._config = read_config(self.folder, kind="nano-style")
        self.choices: Mapping[str, tuple[str, ...]] = {
            "speaker": tuple(SPEAKERS), "emotion": tuple(EMOTIONS), "pitch": tuple(PITCHES), "speed": tuple(SPEEDS),
        }  # fmt: skip

    def embed(self, styles: Sequence[Style]) -> NDArray[np.float32]:
        """One vector for each style, float32 (styles, 13).

        Raises:
            InputError: If a value is not among `choices`.
        """
        rows = np.zeros((len(styles), STYLE.size), np.float32)
        for row, style in zip(rows, styles, strict=True):
            for axis, value in style.to_dict().items():
                if value not in self.choices[axis]:
                    known = ", ".join(self.choices[axis])
                    raise InputError(f"emova-nano has no {axis} `{value}`", f"choose one of {known}")
            row[:] = style_vector(style.speaker, prosody_for(style.emotion, style.pitch, style.speed))
        return rows

    def perceive(self, clips: Sequence[Audio]) -> list[PerceivedStyle]:
        """Tell how each clip, of any rate, is spoken.

        Nothing is known where nobody speaks, or too shortly, or with a voice unlike those that perception was learnt from.
        """
        return [self._perceive(clip) for clip in clips]

    def _perceive(self, clip: Audio) -> PerceivedStyle:
        samples = speech_in(clip.resample(SAMPLE_RATE).samples)
        if len(samples) < _SHORTEST_S * SAMPLE_RATE:
            return PerceivedStyle.nothing_known()
        sound = at_level(samples)
        frames, statistics = perception_input(log_mel(sound), *pitch_track(sound))
        if self._familiar is not None and self._familiar.distance(statistics) > FARTHEST:
            return PerceivedStyle.nothing_known()
        logits = self.networks.run("style", frames=frames, whole=statistics)
        found: dict[str, str] = {}
        scores: dict[str, float] = {}
        for axis, values in STYLE_AXES.items():
            logit = logits[axis]
            temperature = float(self._config.get("temperature", {}).get(axis, 1.0))
            odds = np.exp((logit - logit.max()) / temperature)
            found[axis] = values[int(odds.argmax())]
            scores[axis] = float(odds.max() / odds.sum())
        return PerceivedStyle(Style.from_dict(found), scores)

    @cached_property
    def _familiar(self) -> Familiar | None:
        return Familiar.load(self.folder) if self._only_familiar else None

    def _graphs(self) -> list[Graph]:
        """The network of `perceive`: frames and statistics of an utterance to logits."""
        from emova_sdk.components.nano.graphs import style_graphs

        return style_graphs(self.folder, statistics=int(self._config["network"]["statistics"]))

    def trials(self) -> list[Trial]:
        """Labels that are perceived in recorded speech."""
        return style_trials()

    def assets(self) -> Mapping[str, Path]:
        """The config, and the voices that are known."""
        return {name: self.folder / name for name in ("config.json", FILE) if (self.folder / name).exists()}
