"""Whole conversations from recordings: everything is pushed, and what was played is put on one time line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from emova_sdk.live.live_session import LiveSession
from emova_sdk.types import Audio
from emova_sdk.types.live_events import LiveEvent, Playback


def converse(
    live: LiveSession, chunks: Iterable[Audio], *, notice: Callable[[LiveEvent], Any] = lambda _: None
) -> list[LiveEvent]:
    """Push all chunks, then finish; return all events, each shown to ``notice`` as it happens."""
    found: list[LiveEvent] = []
    for chunk in chunks:
        for event in live.push(chunk):
            notice(event)
            found.append(event)
    for event in live.finish():
        notice(event)
        found.append(event)
    return found


def played_audio(events: Iterable[LiveEvent], *, duration_s: float | None = None) -> Audio | None:
    """Put what was played on one time line, with silence where nothing was, as a recording of the loudspeaker.

    Args:
        events: Of a whole conversation.
        duration_s: Length of the recording; by default until the last sound.
    """
    pieces = [event for event in events if isinstance(event, Playback)]
    if not pieces:
        return None
    rate = pieces[0].audio.sample_rate
    end_s = max(event.at_s + event.audio.duration_s for event in pieces)
    line = np.zeros(round(max(end_s, duration_s or 0.0) * rate) + 1, np.float32)
    at = 0
    for event in pieces:
        at = max(at, round(event.at_s * rate))
        line[at : at + len(event.audio.samples)] = event.audio.samples[: len(line) - at]
        at += len(event.audio.samples)
    return Audio(line, rate)
