"""Microphone and loudspeaker: conversations from recordings in simulated real time, and what PortAudio is asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from emova_sdk import Audio, Pipeline, Style
from emova_sdk.errors import BackendError, InputError, MissingDependencyError
from emova_sdk.live import (
    EnergyActivity,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    LiveSession,
    LiveSettings,
    Playback,
    PlaybackBuffer,
    Recordings,
    SoundDevices,
    UserSpoke,
    UserTurn,
    list_devices,
    talk,
)
from emova_sdk.session import Session
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder

RATE = 16_000
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def tone(seconds: float, hertz: float = 220.0) -> Audio:
    t = np.arange(round(seconds * RATE)) / RATE
    return Audio((0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), RATE)


def quiet(seconds: float) -> Audio:
    return Audio.silence(seconds, RATE)


def a_session() -> Session:
    pipeline = Pipeline(
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=FakeLLMCore(transcript="count", replies={"count": LONG}),
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )
    return pipeline.session(style=Style())


SPOKEN = FakeVocoder().sample_rate


def conversation(
    *parts: Audio, sample_rate: int = SPOKEN, chunk_s: float = 0.02, **options: Any
) -> tuple[Session, Recordings, list[LiveEvent]]:
    session, events = a_session(), list[LiveEvent]()
    lead_s = max(0.1, 2 * chunk_s)
    device = Recordings(Audio.concat(list(parts)), sample_rate=sample_rate, chunk_s=chunk_s, lead_s=lead_s)
    talk(session, device, activity=EnergyActivity(), threaded=False, notice=events.append, **options)
    return session, device, events


def loud(played: Audio) -> np.ndarray[Any, Any]:
    """What was not silence, without gaps."""
    return played.samples[np.flatnonzero(played.samples)]


def spoken(session: Session, turn: int) -> np.ndarray[Any, Any]:
    audio = session.history[turn].audio
    assert isinstance(audio, Audio)
    return audio.samples[np.flatnonzero(audio.samples)]


@pytest.mark.parametrize("chunk_s", [0.005, 0.02, 0.1])
def test_the_loudspeaker_plays_the_answer_without_a_gap(chunk_s: float) -> None:
    session, device, _ = conversation(tone(1.0), quiet(1.0), chunk_s=chunk_s)
    audio = session.history[1].audio
    assert isinstance(audio, Audio)
    played = device.played.samples
    (start,) = np.flatnonzero(played)[:1] - np.flatnonzero(audio.samples)[:1]
    assert np.array_equal(played[start : start + len(audio.samples)], audio.samples)
    assert 1.6 < start / device.played.sample_rate < 1.9


def test_a_loudspeaker_of_another_rate_plays_the_same() -> None:
    session, device, _ = conversation(tone(1.0), quiet(1.0), sample_rate=44_100)
    audio = session.history[1].audio
    assert isinstance(audio, Audio)
    expected = audio.resample(44_100).samples
    played = device.played.samples
    at = int(np.argmax(np.correlate(played, expected[:4_000], "valid")))
    assert np.allclose(played[at : at + len(expected)], expected[: len(played) - at], atol=1e-3)


@pytest.mark.parametrize("chunk_s", [0.01, 0.02])
def test_speech_over_an_answer_silences_the_loudspeaker_within_100_ms(chunk_s: float) -> None:
    session, device, events = conversation(tone(1.0), quiet(2.2), tone(1.5, 180), quiet(1.0), chunk_s=chunk_s)
    began = 1.0 + 2.2  # of the speech that interrupts
    cut = next(event for event in events if isinstance(event, Interrupted))
    assert cut.at_s > began + 0.5
    samples, rate = device.played.samples, device.played.sample_rate
    over = np.flatnonzero(samples[: round(cut.at_s * rate)])
    assert 0 <= over[-1] / rate - began < 0.1
    first = session.history[1]
    assert first.interrupted
    heard = spoken(session, 1)
    assert np.array_equal(heard, loud(device.played)[: len(heard)])  # history holds what came out, to the sample
    rest = loud(device.played)[len(heard) :]
    assert np.array_equal(rest, spoken(session, 3))  # and nothing stale was played after it


def test_a_cough_loses_not_a_sample() -> None:
    session, device, events = conversation(tone(1.0), quiet(1.7), tone(0.2, 300), quiet(6.0))
    assert any(isinstance(event, FalseInterruption) for event in events)
    assert not any(isinstance(event, Interrupted) for event in events)
    assert np.array_equal(loud(device.played), spoken(session, 1))


@pytest.mark.parametrize("chunk_s", [0.01, 0.02, 0.032, 0.1])
def test_twenty_turns_on_a_device_end_with_what_was_played(chunk_s: float) -> None:
    parts: list[Audio] = []
    for turn in range(20):
        parts += [tone(0.9 + 0.05 * (turn % 4), 180 + 10 * turn), quiet(0.8)]
        cough = [quiet(0.9), tone(0.2, 300), quiet(6.0)]
        parts += {1: [quiet(1.1)], 2: cough}.get(turn % 4, [quiet(6.0)])
    session, device, events = conversation(*parts, chunk_s=chunk_s)
    assert len(session.history) == 40
    assert sum(isinstance(event, Interrupted) for event in events) == 5
    assert sum(isinstance(event, FalseInterruption) for event in events) == 5
    assert [turn.interrupted for turn in session.history[1::2]] == [turn % 4 == 1 for turn in range(20)]
    heard = np.concatenate([spoken(session, turn) for turn in range(1, 40, 2)])
    assert np.array_equal(loud(device.played), heard)


def test_speech_before_anything_was_played_continues_the_turn() -> None:
    # the answer is in the loudspeaker's buffer, and not one sample of it has been taken
    session = a_session()
    live = LiveSession(session, activity=EnergyActivity(), playback=PlaybackBuffer(SPOKEN), threaded=False)
    events: list[LiveEvent] = []
    for part in (tone(1.0), quiet(0.75), tone(1.0), quiet(1.0)):
        for at in range(0, len(part.samples), 320):
            events += live.push(Audio(part.samples[at : at + 320], RATE))
    first, second = (event for event in events if isinstance(event, UserTurn))
    assert second.audio.duration_s > first.audio.duration_s + 1.5
    assert [event.turn for event in events if isinstance(event, Interrupted)] == [None]
    live.close()
    assert session.history == []  # nobody heard a word


def test_what_the_loudspeaker_plays_into_the_microphone_can_be_ignored() -> None:
    parts = (tone(1.0), quiet(1.0), tone(1.0, 300), quiet(6.0))
    session, _, events = conversation(*parts, settings=LiveSettings(interruptible=False))
    assert sum(isinstance(event, UserSpoke) for event in events) == 1
    assert len(session.history) == 2
    assert not session.history[1].interrupted
    assert len(conversation(*parts)[0].history) == 4


def test_sound_on_its_way_through_the_device_was_not_heard() -> None:
    question = (tone(1.0), quiet(9.0))

    def cut(latency_s: float) -> tuple[Session, Recordings]:
        session = a_session()
        device = Recordings(Audio.concat(list(question)), sample_rate=SPOKEN, latency_s=latency_s)

        def stop(event: LiveEvent) -> None:
            if event.kind == "playback" and event.at_s > 3.0:  # type: ignore[union-attr]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            talk(session, device, activity=EnergyActivity(), threaded=False, notice=stop)
        return session, device

    near, far = cut(0.0), cut(0.3)
    assert np.array_equal(near[1].played.samples, far[1].played.samples)  # the device was given the same
    heard = [session.history[1].audio.duration_s for session, _ in (near, far)]  # type: ignore[union-attr]
    assert heard[0] - heard[1] == pytest.approx(0.3, abs=1e-3)
    texts = [session.history[1].heard_text or "" for session, _ in (near, far)]
    assert texts[0].startswith(texts[1])
    assert len(texts[1]) < len(texts[0])


def test_with_a_slow_device_an_answer_is_over_when_it_was_heard() -> None:
    ends: list[float] = []
    for latency_s in (0.0, 0.5):
        session, events = a_session(), list[LiveEvent]()
        device = Recordings(Audio.concat([tone(1.0), quiet(1.0)]), sample_rate=SPOKEN)
        options: Any = {"activity": EnergyActivity(), "threaded": False, "output_latency_s": latency_s}
        talk(session, device, notice=events.append, **options)
        assert not session.history[1].interrupted
        assert np.array_equal(loud(device.played), spoken(session, 1))
        ends.append(next(event.at_s for event in events if event.kind == "answer_finished"))  # type: ignore[union-attr]
    assert ends[1] - ends[0] == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("latency_s", [0.0, 0.256])
def test_without_a_loudspeaker_the_latency_can_be_told(latency_s: float) -> None:
    live = LiveSession(a_session(), activity=EnergyActivity(), output_latency_s=latency_s, threaded=False)
    events: list[LiveEvent] = []
    for part in (tone(1.0), quiet(2.0)):
        events += live.push(part)
    live.close()
    given_s = sum(event.audio.duration_s for event in events if isinstance(event, Playback))
    audio = live.session.history[1].audio
    assert isinstance(audio, Audio)
    assert audio.duration_s == pytest.approx(given_s - latency_s, abs=1e-3)
    with pytest.raises(InputError, match="negative"):
        LiveSession(a_session(), activity=EnergyActivity(), output_latency_s=-0.1)


def test_an_answer_in_a_thread_of_its_own_in_real_time() -> None:
    session, before = a_session(), threading.active_count()
    session.pipeline.llm_core = FakeLLMCore(transcript="count", replies={"count": "one two three"})
    device = Recordings(Audio.concat([tone(0.4), quiet(0.5)]), sample_rate=SPOKEN, paced=True)
    settings = LiveSettings(end_s=0.2, unfinished_end_s=0.2)
    talk(session, device, settings=settings, activity=EnergyActivity())
    assert np.array_equal(loud(device.played), spoken(session, 1))
    assert threading.active_count() == before


def test_stopping_in_the_middle_keeps_what_was_played() -> None:
    session = a_session()
    device = Recordings(Audio.concat([tone(1.0), quiet(9.0)]), sample_rate=SPOKEN)

    def stop(event: LiveEvent) -> None:
        if event.kind == "playback" and event.at_s > 2.5:  # type: ignore[union-attr]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk(session, device, activity=EnergyActivity(), threaded=False, notice=stop)
    assert session.history[1].interrupted
    assert np.array_equal(loud(device.played), spoken(session, 1))


# --- the buffer ---


def ramp(count: int, start: int = 1) -> Audio:
    return Audio(np.arange(start, start + count, dtype=np.float32) / 1000, RATE)


def test_the_buffer_gives_what_it_was_given() -> None:
    buffer = PlaybackBuffer(RATE)
    for at in range(0, 100, 10):
        buffer.push(1, ramp(10, at + 1))
    assert buffer.unplayed_s == pytest.approx(100 / RATE)
    taken = np.concatenate([buffer.pull(count) for count in (1, 7, 50, 60)])
    assert np.array_equal(taken[:100], ramp(100).samples)
    assert not taken[100:].any()
    assert buffer.unplayed_s == 0.0


def test_held_sound_waits_and_dropped_sound_is_gone() -> None:
    buffer = PlaybackBuffer(RATE)
    buffer.push(1, ramp(100))
    buffer.pull(10)
    buffer.hold()
    assert not buffer.pull(50).any()
    buffer.release()
    assert np.array_equal(buffer.pull(10), ramp(100).samples[10:20])
    buffer.hold()
    buffer.drop(1)
    buffer.push(1, ramp(100))  # came late
    assert buffer.unplayed_s == 0.0
    assert not buffer.pull(50).any()
    buffer.push(2, ramp(5))
    assert np.array_equal(buffer.pull(5), ramp(5).samples)


def test_what_the_device_has_taken_is_heard_later() -> None:
    buffer = PlaybackBuffer(1_000, latency_s=0.1)
    buffer.push(1, Audio(np.ones(300, np.float32), 1_000))
    buffer.pull(200)
    assert (buffer.waiting_s, buffer.unplayed_s) == (pytest.approx(0.1), pytest.approx(0.2))
    buffer.hold()
    buffer.pull(60)  # silence, while what was taken before is still heard
    assert buffer.unplayed_s == pytest.approx(0.14)
    buffer.release()
    buffer.pull(100)
    assert buffer.unplayed_s == pytest.approx(0.1)
    buffer.pull(100)
    assert buffer.unplayed_s == 0.0
    buffer.push(1, Audio(np.ones(50, np.float32), 1_000))
    buffer.pull(50)
    buffer.drop(1)
    assert buffer.unplayed_s == 0.0


def test_what_is_being_converted_counts_as_unplayed() -> None:
    buffer = PlaybackBuffer(48_000)
    buffer.push(1, tone(0.5))
    assert buffer.unplayed_s == pytest.approx(0.5)
    taken = len(buffer.pull(24_000))
    buffer.finish()
    assert taken == 24_000
    assert buffer.unplayed_s < 0.05


def test_a_conversation_with_a_loudspeaker_is_not_finished_by_made_up_silence() -> None:
    live = LiveSession(a_session(), activity=EnergyActivity(), playback=PlaybackBuffer(SPOKEN), threaded=False)
    with pytest.raises(InputError, match="loudspeaker"):
        live.finish()


# --- PortAudio, which is not here: a stand-in of the module that calls back as PortAudio does ---


class PortAudioError(Exception):
    pass


class StandIn:
    """Three devices; streams call back in threads of their own until they are closed."""

    PortAudioError = PortAudioError
    DEVICES = (
        {"index": 0, "name": "Headset", "max_input_channels": 1, "max_output_channels": 2, "default_samplerate": 48_000.0},
        {
            "index": 1,
            "name": "Desk microphone",
            "max_input_channels": 2,
            "max_output_channels": 0,
            "default_samplerate": 16_000.0,
        },
        {"index": 2, "name": "Monitor", "max_input_channels": 0, "max_output_channels": 2, "default_samplerate": 44_100.0},
    )

    def __init__(self) -> None:
        self.default = SimpleNamespace(device=(0, 0))
        self.opened: list[dict[str, Any]] = []
        self.open_streams = 0
        self.busy = False
        self.stop_after = 10_000
        self.called_back = threading.Condition()

    def until(self, so: Callable[[], bool]) -> bool:
        """Wait for callbacks until something is so; the time only bounds a failure."""
        with self.called_back:
            return self.called_back.wait_for(so, timeout=60)

    def query_devices(self, device: Any = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.DEVICES
        channels = f"max_{kind}_channels"
        named = [
            one for one in self.DEVICES if device in (None, one["index"]) or str(device).lower() in str(one["name"]).lower()
        ]
        if not named or not named[0][channels]:
            raise ValueError(f"No {kind} device matching {device!r}")
        return named[0]

    def InputStream(self, **options: Any) -> Stream:  # noqa: N802 - sounddevice's name
        return Stream(self, options)

    def OutputStream(self, **options: Any) -> Stream:  # noqa: N802
        return Stream(self, options)


class Stream:
    latency = 0.18

    def __init__(self, module: StandIn, options: dict[str, Any]) -> None:
        if module.busy:
            raise PortAudioError("Device unavailable")
        module.opened.append(options)
        self.module, self.options = module, options
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> Self:
        self.module.open_streams += 1
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        self.module.open_streams -= 1

    def run(self) -> None:
        block = np.full((self.options["blocksize"], 1), 0.01, np.float32)
        for _ in range(self.module.stop_after):
            if self.stopping.is_set():
                return
            self.options["callback"](block, len(block), None, None)
            with self.module.called_back:
                self.module.called_back.notify_all()
            self.stopping.wait(0.002)
        self.options["finished_callback"]()


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "sounddevice", stand_in)  # type: ignore[arg-type]
    return stand_in


def test_devices_are_chosen_by_name_or_number(portaudio: StandIn) -> None:
    device = SoundDevices(microphone="desk", loudspeaker="2")
    assert device.playback.sample_rate == 44_100
    assert not device.ended
    chunks = device.record()
    chunk = next(chunks)
    chunks.close()
    assert (chunk.sample_rate, len(chunk.samples)) == (16_000, 320)
    heard, spoke = portaudio.opened
    assert (heard["device"], heard["samplerate"], heard["channels"]) == (1, 16_000, 1)
    assert (spoke["device"], spoke["samplerate"], spoke["blocksize"]) == (2, 44_100, 882)
    assert portaudio.open_streams == 0
    assert device.playback.latency_s == 0.18
    told = SoundDevices()
    told.playback.latency_s = 0.4
    chunks = told.record()
    next(chunks)
    chunks.close()
    assert told.playback.latency_s == 0.4  # who knows better than the device is believed
    assert [one["name"] for one in list_devices() if one["default"]] == ["Headset"]


def test_what_is_played_comes_from_the_buffer(portaudio: StandIn) -> None:
    device = SoundDevices()
    device.playback.push(1, Audio(np.full(960, 0.5, np.float32), 48_000))
    block = np.zeros((1_000, 1), np.float32)
    device._play(block, 1_000, None, None)
    assert block[:960, 0].tolist() == [0.5] * 960
    assert not block[960:].any()


@pytest.mark.parametrize(
    ("wanted", "message"), [({"microphone": "Monitor"}, "no microphone `Monitor`"), ({"loudspeaker": 9}, "no loudspeaker `9`")]
)
def test_a_device_that_is_not_there(portaudio: StandIn, wanted: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        SoundDevices(**wanted)
    assert "--list-devices" in caught.value.hint


def test_a_device_that_is_taken_stops_or_runs_away(portaudio: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    portaudio.busy = True
    with pytest.raises(BackendError, match="`Headset` cannot be opened"):
        next(SoundDevices().record())
    portaudio.busy, portaudio.stop_after = False, 5
    with pytest.raises(BackendError, match="has stopped"):
        list(SoundDevices().record())
    portaudio.stop_after = 10_000
    monkeypatch.setattr("emova_sdk.live.devices.MOST_BEHIND_S", 0.1)
    device = SoundDevices()
    chunks = device.record()
    next(chunks)
    assert portaudio.until(lambda: "behind" in device._failure)
    with pytest.raises(BackendError, match="behind the microphone"):
        list(chunks)


def test_without_portaudio_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match="`sounddevice`") as caught:
        SoundDevices()
    assert caught.value.hint == "pip install 'emova-sdk[live]'"
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    try:
        import sounddevice  # noqa: F401
    except OSError:
        with pytest.raises(MissingDependencyError, match="PortAudio library") as caught:
            list_devices()
        assert "libportaudio2" in caught.value.hint
