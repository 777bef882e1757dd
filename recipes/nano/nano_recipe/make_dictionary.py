"""Makes the shipped pronunciation dictionary from Debian's `festlex-cmu` (CMU Pronouncing Dictionary 0.4)."""

import lzma
import re
from pathlib import Path

from emova_sdk.components.nano.dictionary import PHONES

SOURCE = Path("/usr/share/festival/dicts/cmu/cmudict-0.4.out")

_ENTRY = re.compile(r'^\("([a-z\']+)" (\S+) (.*)\)$')
_PHONE = re.compile(r"[a-z]+")
_FIXED = {
    "a": "ah", "the": "dh ah", "to": "t ah", "and": "ae n d", "of": "ah v", "i": "ay", "read": "r iy d", "live": "l ih v",
    "lives": "l ih v z", "wind": "w ih n d", "tear": "t eh r", "use": "y uw z", "o'clock": "ah k l aa k",
    "close": "k l ow z",
}  # fmt: skip
"""Words that are said in more than one way: the likelier one here."""


def make_dictionary(out: Path, *, source: Path = SOURCE) -> int:
    """Write the dictionary, sorted and compressed; return the number of words."""
    words: dict[str, tuple[str, ...]] = {}
    for line in source.read_text(encoding="latin-1").splitlines():
        match = _ENTRY.match(line)
        if match is None or len(match[1]) > 16:
            continue
        found: list[str] = _PHONE.findall(match[3])
        sounds = tuple({"ax": "ah", "axr": "er"}.get(p, p) for p in found)
        if sounds and all(p in PHONES for p in sounds):
            words.setdefault(str(match[1]), sounds)
    words.update({word: tuple(sounds.split()) for word, sounds in _FIXED.items()})
    rows = (f"{word} {''.join(chr(48 + PHONES.index(p)) for p in words[word])}" for word in sorted(words))
    out.write_bytes(lzma.compress("\n".join(rows).encode("ascii"), preset=9))
    return len(words)
