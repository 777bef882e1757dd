"""Sound files, PCM16 and sample rates."""

from __future__ import annotations

import io
import mmap
import os
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emova_sdk import audio
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image


def tone(seconds=0.5, rate=16_000, hertz=440.0):
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(format_, subtype=None, *, channels=1, rate=16_000):
    buffer = io.BytesIO()
    samples = tone(rate=rate)
    data = samples if channels == 1 else np.stack([samples] * channels, axis=1)
    sf.write(buffer, data, rate, format=format_, subtype=subtype)
    return buffer.getvalue()


# --- reading ---


@pytest.mark.parametrize(
    ("format_", "subtype", "atol"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 2e-2),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "ULAW", 2e-2),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("MP3", None, 0.1),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_are_read_from_paths_bytes_and_files(tmp_path, format_, subtype, atol, channels):
    data = encoded(format_, subtype, channels=channels)
    path = tmp_path / f"a.{format_.lower()}"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        samples, rate = audio.read(source)
        assert (rate, samples.dtype, samples.ndim) == (16_000, np.float32, 1)
        assert len(samples) == 8000
        assert np.abs(samples[500:-500] - tone()[500:-500]).max() <= atol


def test_channels_are_averaged_or_refused():
    buffer = io.BytesIO()
    sf.write(buffer, np.array([[0.5, -0.5], [0.25, 0.75]]), 8000, format="WAV", subtype="FLOAT")
    samples, _ = audio.read(buffer.getvalue())
    assert samples.tolist() == [0.0, 0.5]
    with pytest.raises(InputError, match="has 2 channels") as error:
        audio.read(buffer.getvalue(), mix=False)
    assert "mix=True" in error.value.hint


def test_one_channel_stays_bit_for_bit_what_it_was():
    samples = np.array([0.0, -0.0, 1e-45, -1e-45, 0.25], np.float32)
    for given_ in (samples, samples[:, None]):
        assert audio.downmix(given_).tobytes() == samples.tobytes()


@pytest.mark.parametrize("gain", [-1.0, -0.8, -1.2])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_a_channel_of_inverted_polarity_does_not_silence_the_other(gain, offset):
    mono = audio.downmix(np.stack([tone() + offset, gain * tone() + offset], axis=1))
    assert 0.3 < np.abs(mono - mono.mean()).max() < 0.6


def test_unlike_channels_are_averaged():
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, (4000, 2)).astype(np.float32)
    for samples in (stereo, stereo * [1, 0], stereo[:0], stereo[:1] * [1, -1]):
        assert np.allclose(audio.downmix(samples), samples.mean(axis=1))


NAMES = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0/~."), min_size=1, max_size=400)


@given(name=NAMES)
def test_no_path_brings_a_foreign_error(name, tmp_path_factory):
    folder = str(tmp_path_factory.getbasetemp())
    for action in (
        lambda: Audio.open(f"{folder}/{name}"),
        lambda: Image.open(f"{folder}/{name}"),
        lambda: Audio(tone(), 8000).save(f"{folder}/no folder/{name}.wav"),
    ):
        with pytest.raises(InputError):
            action()


def test_folders_and_loops_are_told_in_words(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="cannot be read: too many levels of symbolic links"):
        audio.read(tmp_path / "loop")
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(InputError, match=r"cannot write `.*a.wav`: is a directory"):
        audio.write(tmp_path / "a.wav", tone(), 8000)


def test_what_is_not_there_or_empty_is_refused(tmp_path):
    (tmp_path / "empty.wav").touch()
    for source, message in (
        (tmp_path / "no.wav", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.wav", r"is empty \(0 bytes\)"),
        (b"", "the given audio file is empty"),
    ):
        with pytest.raises(InputError, match=message):
            audio.read(source)


@pytest.mark.parametrize(
    "content", [b"this is a text file named .wav\n" * 40, b"RIFF", b"\x00" * 300, b"RIFF\x24\x00\x00\x00WAVEfmt "]
)
def test_what_is_no_sound_is_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(InputError, match="cannot be read as sound"):
            audio.read(source)


def test_a_wav_without_samples_is_an_empty_sound():
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros(0), 8000, format="WAV")
    samples, rate = audio.read(buffer.getvalue())
    assert (len(samples), rate) == (0, 8000)


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_truncated_wav_is_refused(tmp_path, kept, subtype):
    data = encoded("WAV", subtype)
    cut = data[: int(len(data) * kept)]
    (tmp_path / "a.wav").write_bytes(cut)
    for source in (cut, tmp_path / "a.wav"):
        with pytest.raises(InputError, match="is truncated"):
            audio.read(source)


def test_a_truncated_flac_is_refused():
    data = encoded("FLAC")
    with pytest.raises(InputError):
        audio.read(data[: len(data) // 2])


# what programs leave in the header of a WAV file that they write to a pipe
STAND_INS = [0, 0x7FFFF000, 0x7FFFFFFC, 0x7FFFFFFF, 0x7FFFFFDB, 0x80000000, 0xFFFFFFDB, 0xFFFFFF00, 0xFFFFFFFF]


@pytest.mark.parametrize("size", STAND_INS)
@pytest.mark.parametrize("riff", [None, 0, 36, 0x7FFFF024, 0xFFFFFFFF])
@pytest.mark.parametrize(("format_", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "FLOAT"), ("WAV", "ULAW")])
def test_a_wav_from_a_pipe_is_read_whole(tmp_path, size, riff, format_, subtype):
    data = with_lengths(encoded(format_, subtype), data=size, riff=riff)
    (tmp_path / "a.wav").write_bytes(data)
    for source in (data, tmp_path / "a.wav", io.BytesIO(data)):
        assert len(audio.read(source)[0]) == 8000


def with_lengths(wav, *, data, riff=None):
    changed = bytearray(wav)
    at = changed.index(b"data") + 4
    changed[at : at + 4] = data.to_bytes(4, "little")
    if riff is not None:
        changed[4:8] = riff.to_bytes(4, "little")
    return bytes(changed)


def test_a_length_that_was_never_brought_up_to_date_is_not_believed():
    data = encoded("WAV", "PCM_16")
    assert len(audio.read(with_lengths(data, data=8000))[0]) == 8000
    # a chunk after the samples is no sound, and neither is what lies behind the end of the RIFF chunk
    whole = with_lengths(data, data=16_000)
    assert len(audio.read(whole + b"LIST" + (4).to_bytes(4, "little") + b"INFO")[0]) == 8000
    assert len(audio.read(whole + b"TAG" + bytes(125))[0]) == 8000
    # half a sample at the end is left out, and a header that counts itself in does no harm
    assert len(audio.read(with_lengths(data, data=15_999))[0]) == 7999
    assert len(audio.read(with_lengths(data, data=16_044))[0]) == 8000


class Pipe(io.RawIOBase):
    """A file in which one cannot go back."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


def test_sounds_come_in_any_object_that_holds_bytes(tmp_path):
    data = encoded("WAV")
    (tmp_path / "a.wav").write_bytes(data)
    spread = np.zeros((len(data), 2), np.uint8)
    spread[:, 0] = np.frombuffer(data, np.uint8)
    with (tmp_path / "a.wav").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        views = (bytearray(data), memoryview(data), memoryview(spread[:, 0]), array("B", data), mapped)
        for source in (*views, file, Pipe(data), io.BufferedReader(Pipe(data))):
            assert len(audio.read(source)[0]) == 8000
    for source in (None, 3, [1, 2], object(), io.StringIO("RIFF"), Pipe(b""), io.BytesIO()):
        with pytest.raises(InputError):
            audio.read(source)


def test_a_named_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded("WAV"),), daemon=True)
    writer.start()
    assert len(audio.read(pipe)[0]) == 8000
    writer.join()


def test_other_chunks_before_the_data_are_skipped():
    data = encoded("WAV", "PCM_16")
    extra = b"LIST" + (5).to_bytes(4, "little") + b"hello\x00"
    data = data[:12] + extra + data[12:]
    assert len(audio.read(data)[0]) == 8000
    with pytest.raises(InputError, match="is truncated"):
        audio.read(data[:-1000])


def test_a_limit_is_checked_before_reading():
    with pytest.raises(InputError, match=r"lasts 0 s, and the limit is 0.25 s|lasts 1 s") as error:
        audio.read(encoded("WAV"), max_duration_s=0.25)
    assert "max_audio_s" in error.value.hint
    assert len(audio.read(encoded("WAV"), max_duration_s=0.5)[0]) == 8000


def test_a_header_that_lies_about_its_length_cannot_pass_the_limit(monkeypatch):
    class Lying(sf.SoundFile):
        asked = 0

        @property
        def frames(self):
            self.asked += 1
            return 100 if self.asked == 1 else 8000

    monkeypatch.setattr(sf, "SoundFile", Lying)
    with pytest.raises(InputError, match=r"the limit is 0.25 s"):
        audio.read(encoded("WAV"), max_duration_s=0.25)


def test_recordings_of_real_people_are_read():
    folder = Path(os.environ.get("EMOVA_AUDIO_DIR", Path(__file__).parents[2] / "shared" / "audio"))
    files = sorted(folder.glob("*.wav"))
    if not files:
        pytest.skip("no folder of recordings here: set EMOVA_AUDIO_DIR")
    for path in files:
        samples, rate = audio.read(path)
        assert len(samples) > rate / 2
        assert np.abs(samples).max() > 0.01


# --- writing ---


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    audio.write(path, tone(), 16_000)
    samples, rate = audio.read(path)
    assert rate == 16_000
    assert np.abs(samples - tone()).max() < 1 / 32_000
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_floats_are_written_without_loss(tmp_path):
    samples = np.array([0.1, -3.0, 1e-9], np.float32)
    audio.write(tmp_path / "a.wav", samples, 16_000, float32=True)
    assert np.array_equal(audio.read(tmp_path / "a.wav")[0], samples)
    with pytest.raises(InputError, match=r"written to .wav only"):
        audio.write(tmp_path / "a.flac", samples, 16_000, float32=True)


def test_other_formats_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"`a.mp3` does not end in .wav or .flac"):
        audio.write(tmp_path / "a.mp3", tone(), 16_000)
    with pytest.raises(InputError, match="cannot write to the folder"):
        audio.write(tmp_path / "no" / "a.wav", tone(), 16_000)


# --- PCM16 ---


def test_pcm16_is_clipped_and_rounded():
    assert audio.encode_pcm16(np.array([0, 1, -1, 2, -2, 0.5], np.float32)).tolist() == [0, 32767, -32767, 32767, -32767, 16384]


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(-1, 1, width=32)))
def test_pcm16_round_trip(samples):
    pcm = audio.encode_pcm16(samples)
    assert np.abs(audio.decode_pcm16(pcm) - samples).max(initial=0) < 1e-4
    assert np.array_equal(audio.decode_pcm16(pcm.astype("<i2").tobytes()), audio.decode_pcm16(pcm))


def test_half_a_sample_is_refused():
    for pcm in (b"\x00\x01\x02", bytearray(3), memoryview(bytes(5))):
        with pytest.raises(InputError, match="odd number of bytes"):
            audio.decode_pcm16(pcm)


def test_pcm16_comes_in_any_object_that_holds_bytes_or_int16():
    samples = np.array([0, 1000, -32768, 32767], "<i2")
    raw = samples.tobytes()
    expected = audio.decode_pcm16(raw)
    spread = np.zeros((len(raw), 2), np.uint8)
    spread[:, 0] = np.frombuffer(raw, np.uint8)
    wide = np.repeat(samples, 2)[::2]
    same = (
        bytearray(raw),
        memoryview(raw),
        memoryview(spread[:, 0]),
        memoryview(samples),
        array("h", samples),
        array("B", raw),
    )
    for pcm in (*same, samples.astype(">i2"), wide, memoryview(wide)):
        assert np.array_equal(audio.decode_pcm16(pcm), expected)
        assert audio.decode_pcm16(pcm).dtype == np.float32


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "u1", "i1", "u2", "i4", "i8", "?", "c8", "O", "U4"])
def test_what_is_not_16_bit_is_refused_rather_than_misread(dtype):
    for pcm in (np.zeros(4).astype(dtype), np.zeros((4, 2)).astype(dtype)):
        with pytest.raises(InputError, match="not int16"):
            audio.decode_pcm16(pcm)


@pytest.mark.parametrize("pcm", [[0, 1], (0.5,), "text", None, 3.5, array("f", [0.5]), array("i", [5]), memoryview(np.ones(3))])
def test_other_objects_are_no_pcm16(pcm):
    with pytest.raises(InputError):
        audio.decode_pcm16(pcm)


# --- rates ---


@pytest.mark.parametrize(("rate", "target"), [(8000, 16_000), (44_100, 16_000), (24_000, 22_050), (16_000, 48_000)])
def test_a_tone_keeps_its_pitch_and_length(rate, target):
    changed = audio.resample(tone(1.0, rate), rate, target)
    assert changed.dtype == np.float32
    assert abs(len(changed) - target) <= 1
    spectrum = np.abs(np.fft.rfft(changed[: target // 2 * 2]))
    assert abs(np.argmax(spectrum) * target / len(changed) - 440) < 2
    middle = slice(target // 4, target // 2)
    assert np.abs(changed[middle] - tone(1.0, target)[: len(changed)][middle]).max() < 1e-3


def test_what_does_not_fit_under_the_new_rate_is_removed():
    assert np.abs(audio.resample(tone(1.0, 48_000, 15_000.0), 48_000, 16_000)[2000:-2000]).max() < 1e-3


def test_equal_rates_and_empty_sounds_stay():
    samples = tone()
    assert audio.resample(samples, 16_000, 16_000) is samples
    assert len(audio.resample(samples[:0], 8000, 16_000)) == 0


@pytest.mark.parametrize(("rate", "target"), [(48_000, 16_000), (16_000, 24_000), (44_100, 16_000), (16_000, 16_000)])
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8))
def test_chunks_resampled_are_the_whole_resampled(rate, target, sizes):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, sum(sizes)).astype(np.float32)
    stream = audio.Resampler(rate, target)
    parts = [stream.push(part) for part in np.split(samples, np.cumsum(sizes)[:-1])]
    joined = np.concatenate([*parts, stream.finish()])
    whole = audio.resample(samples, rate, target)
    assert joined.dtype == np.float32
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max(initial=0) < 1e-5
