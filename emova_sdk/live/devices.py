"""Microphone and loudspeaker: real ones by sounddevice, or recordings in simulated real time.

A device yields what is recorded and, at the same pace, plays what it takes from its `PlaybackBuffer`. `talk` leads a whole
conversation on one.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from emova_sdk.components.end_of_turn import EndOfTurn
from emova_sdk.errors import BackendError, InputError, MissingDependencyError
from emova_sdk.live.activity import Activity
from emova_sdk.live.live_session import LiveSession
from emova_sdk.live.playback import PlaybackBuffer
from emova_sdk.session import Session
from emova_sdk.types import Audio, Image, Style
from emova_sdk.types.live_events import LiveEvent
from emova_sdk.types.live_settings import LiveSettings

__all__ = ["Device", "Recordings", "SoundDevices", "list_devices", "talk"]

MOST_BEHIND_S = 10.0
"""A conversation that falls so far behind the microphone ends with an error: it would only get later and later."""


class Device(Protocol):
    """A microphone and a loudspeaker."""

    playback: PlaybackBuffer
    """What the loudspeaker plays."""

    @property
    def ended(self) -> bool:
        """Whether nothing but silence will be recorded any more."""
        ...

    def record(self) -> Generator[Audio, None, None]:
        """Yield what is recorded, chunk after chunk; closing it stops the device."""
        ...


def talk(
    session: Session,
    device: Device,
    *,
    settings: LiveSettings = LiveSettings(),
    activity: Activity | None = None,
    end_of_turn: EndOfTurn | None = None,
    style: Style | None = None,
    images: Sequence[Image] = (),
    output_latency_s: float | None = None,
    threaded: bool = True,
    notice: Callable[[LiveEvent], Any] = lambda _: None,
) -> None:
    """Converse until the device has nothing more to say, or the caller is interrupted (Ctrl-C).

    Args:
        session: The conversation; its history holds what was heard.
        device: Where its sound comes from and goes to.
        settings: When turns begin and end.
        activity: Tells speech from the rest; Silero's detector when left out.
        end_of_turn: Detects at a pause whether the user has finished; that of the settings when left out.
        style: Style of every answer, whatever the model chooses; None leaves it to the model.
        images: Pictures shown with the first turn.
        output_latency_s: How long after the device took it sound is heard, in seconds; None takes what the device says,
            which knows little of what a wireless one does to it.
        threaded: See `LiveSession`.
        notice: Shown every event as it happens.

    Raises:
        EmovaError: See `LiveSession` and the device.
    """
    live = LiveSession(
        session,
        activity=activity,
        settings=settings,
        end_of_turn=end_of_turn,
        style=style,
        playback=device.playback,
        output_latency_s=output_latency_s,
        threaded=threaded,
    )
    live.show(*images)
    try:
        with closing(device.record()) as chunks:
            for chunk in chunks:
                for event in live.push(chunk):
                    notice(event)
                if device.ended and not live.busy:
                    return
    finally:
        live.close()


class Recordings:
    """A recording in the place of the microphone, and another of what the loudspeaker played: simulated real time.

    Args:
        recording: What the microphone records; silence follows.
        sample_rate: Rate of the loudspeaker, in Hz.
        chunk_s: Length of a chunk, in seconds.
        paced: Whether chunks really take their time, for answers that are made in a thread of their own.
        lead_s: How much sound is kept ready for the loudspeaker, in seconds; more than a chunk.
        latency_s: How long after the loudspeaker took it sound is heard, in seconds.
    """

    def __init__(
        self,
        recording: Audio,
        *,
        sample_rate: int = 48_000,
        chunk_s: float = 0.02,
        paced: bool = False,
        lead_s: float = 0.1,
        latency_s: float = 0.0,
    ) -> None:
        self.playback = PlaybackBuffer(sample_rate, lead_s=lead_s, latency_s=latency_s)
        self._recording = recording
        self._chunk_s = chunk_s
        self._paced = paced
        self._at_s = 0.0
        self._played: list[np.ndarray[Any, np.dtype[np.float32]]] = []

    @property
    def ended(self) -> bool:
        """See `Device`."""
        return self._at_s >= self._recording.duration_s

    @property
    def played(self) -> Audio:
        """What the loudspeaker played from the beginning, silence included."""
        return Audio(np.concatenate(self._played or [np.zeros(0, np.float32)]), self.playback.sample_rate)

    def record(self) -> Generator[Audio, None, None]:
        """See `Device`; the loudspeaker plays as much as was recorded, after each chunk."""
        rate, size = self._recording.sample_rate, round(self._chunk_s * self._recording.sample_rate)
        began, taken, played = time.perf_counter(), 0, 0
        while True:
            chunk = self._recording.samples[taken : taken + size]
            taken += size
            self._at_s = taken / rate
            if self._paced:
                time.sleep(max(0.0, began + self._at_s - time.perf_counter()))
            yield Audio(np.pad(chunk, (0, size - len(chunk))), rate)
            due = round(self._at_s * self.playback.sample_rate)
            self._played.append(self.playback.pull(due - played))
            played = due


class SoundDevices:
    """A microphone and a loudspeaker of this machine, by PortAudio.

    Args:
        microphone: Name, part of a name or number of a device; the system's default when left out.
        loudspeaker: The same for what plays.
        chunk_s: Length of a recorded chunk, in seconds.
        lead_s: How much sound is kept ready for the loudspeaker, in seconds.

    What is heard of an answer counts from the device's own output latency on, see `PlaybackBuffer`.

    Raises:
        MissingDependencyError: If ``sounddevice`` or the PortAudio library is not installed.
        InputError: If there is no such device.
    """

    def __init__(
        self,
        *,
        microphone: str | int | None = None,
        loudspeaker: str | int | None = None,
        chunk_s: float = 0.02,
        lead_s: float = 0.1,
    ) -> None:
        self._sounddevice = _portaudio()
        self._microphone = self._device(microphone, "input")
        self._loudspeaker = self._device(loudspeaker, "output")
        self._chunk_s = chunk_s
        self.playback = PlaybackBuffer(int(self._loudspeaker["default_samplerate"]), lead_s=lead_s)
        self._recorded: queue.Queue[Audio] = queue.Queue(round(MOST_BEHIND_S / chunk_s))
        self._failure = ""

    @property
    def ended(self) -> bool:
        """See `Device`: a microphone never ends."""
        return False

    def record(self) -> Generator[Audio, None, None]:
        """See `Device`.

        Raises:
            BackendError: If a device cannot be opened, stops, or records faster than the conversation follows.
        """
        with (
            self._opened("InputStream", self._microphone, self._listen),
            self._opened("OutputStream", self._loudspeaker, self._play) as output,
        ):
            if self.playback.latency_s is None:
                self.playback.latency_s = max(0.0, float(output.latency))
            while not self._failure:
                try:
                    yield self._recorded.get(timeout=0.5)
                except queue.Empty:
                    continue
        raise BackendError(self._failure, "check the device and the load of this machine")

    # --- called by PortAudio, in a thread of its own ---

    def _listen(self, samples: Any, _frames: int, _time: Any, _status: Any) -> None:
        try:
            self._recorded.put_nowait(Audio(samples[:, 0].copy(), int(self._microphone["default_samplerate"])))
        except queue.Full:
            self._failure = f"the conversation is more than {MOST_BEHIND_S:g} s behind the microphone"

    def _play(self, samples: Any, frames: int, _time: Any, _status: Any) -> None:
        samples[:, 0] = self.playback.pull(frames)

    def _ended(self) -> None:
        self._failure = self._failure or "a sound device has stopped"

    # --- devices ---

    def _device(self, wanted: str | int | None, kind: str) -> dict[str, Any]:
        number = int(wanted) if isinstance(wanted, str) and wanted.isdigit() else wanted
        what = {"input": "microphone", "output": "loudspeaker"}[kind]
        try:
            return dict(self._sounddevice.query_devices(number, kind))
        except (ValueError, self._sounddevice.PortAudioError) as error:
            named = f"no {what} `{wanted}`" if wanted is not None else f"no {what}"
            reason = str(error).splitlines()[0]
            raise InputError(f"there is {named}: {reason}", "`emova chat --list-devices` shows what there is") from error

    def _opened(self, kind: str, device: dict[str, Any], callback: Callable[..., None]) -> Any:
        rate = int(device["default_samplerate"])
        try:
            return getattr(self._sounddevice, kind)(
                device=device["index"],
                samplerate=rate,
                blocksize=round(self._chunk_s * rate),
                channels=1,
                dtype="float32",
                latency="low",
                callback=callback,
                finished_callback=self._ended,
            )
        except self._sounddevice.PortAudioError as error:
            raise BackendError(
                f"`{device['name']}` cannot be opened: {error}", "close what else uses it, or choose another"
            ) from error


def list_devices() -> list[dict[str, Any]]:
    """Return the sound devices of this machine: number, name, channels in and out, rate, and whether it is a default.

    Raises:
        MissingDependencyError: If ``sounddevice`` or the PortAudio library is not installed.
    """
    sounddevice = _portaudio()
    microphone, loudspeaker = sounddevice.default.device
    return [
        {
            "number": int(device["index"]),
            "name": str(device["name"]),
            "inputs": int(device["max_input_channels"]),
            "outputs": int(device["max_output_channels"]),
            "sample_rate": int(device["default_samplerate"]),
            "default": device["index"] in (microphone, loudspeaker),
        }
        for device in sounddevice.query_devices()
    ]


def _portaudio() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        hint = "pip install 'emova-sdk[live]'"
        raise MissingDependencyError("microphone and loudspeaker need `sounddevice`", hint, package="sounddevice") from error
    except OSError as error:  # the wheel is there, and the library it stands on is not
        hint = "install it, e.g. apt install libportaudio2; `emova chat --audio FILE` works without"
        raise MissingDependencyError(
            "microphone and loudspeaker need the PortAudio library", hint, package="portaudio"
        ) from error
    return sounddevice
