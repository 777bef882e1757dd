"""Sizes that nano's networks and what runs them agree on; torch is not needed to know them."""

SAMPLE_RATE = 16000
HOP = 160
"""Samples per frame: 100 frames a second."""
BANDS = 80
"""Log-mel bands."""
FFT = 512
WINDOW = 400
"""Samples of a log-mel frame: 25 ms."""

STYLE_AXES: dict[str, tuple[str, ...]] = {
    "emotion": ("neutral", "happy", "sad", "angry"),
    "pitch": ("low", "normal", "high"),
    "speed": ("slow", "normal", "fast"),
    "speaker": ("female", "male"),
}
"""What is judged of a voice, and the classes in the order of the logits."""
VOICED = 0.5
"""Strength of periodicity from which a frame counts as voiced."""

ENVELOPE = 60
"""Bands of the spectral envelope, evenly spaced on the mel scale."""
APERIODICITY = 5
"""Bands of aperiodicity."""
UNIT_BLOCKS, UNIT_KERNEL = 4, 3
FRAME_BLOCKS, FRAME_KERNEL = 5, 5
UNIT_REACH = UNIT_BLOCKS * (UNIT_KERNEL // 2)
"""Units on either side that a unit's state in the vocoder depends on."""
FRAME_REACH = FRAME_BLOCKS * (FRAME_KERNEL // 2)
"""Frames on either side that a frame's features in the vocoder depend on."""

LONGEST_PHONE = 12
"""Most units of a phone in text-to-units."""
