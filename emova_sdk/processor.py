"""Features of this machine's processor, read from the system without importing anything large."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

KINDS = ("x86-64 with AVX2", "x86-64 with AVX-512", "x86-64 with VNNI", "ARM64")
"""Kinds that multiply 8-bit numbers in ways of their own; the first two may saturate."""
_X86 = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512bw",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16",),
    "AMX": ("amx_bf16", "amx_int8"),
}
_ARM = {"NEON dot products": ("asimddp",), "I8MM": ("i8mm",), "SVE": ("sve",), "BF16": ("bf16",)}


@dataclass(frozen=True)
class Processor:
    """A processor.

    Attributes:
        name: As its maker calls it; the architecture where the system does not say.
        has: The instructions that matter for networks: AVX2, AVX-512, VNNI, BF16, AMX, or NEON dot products, I8MM, SVE, BF16.
        lacks: Those it does not have; neither holds what the system does not tell.
    """

    name: str
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def saturates(self) -> bool:
        """Whether ONNX Runtime adds pairs of 8-bit products in 16 bits here."""
        return "AVX2" in self.has and "VNNI" in self.lacks

    @property
    def slow_in_bfloat16(self) -> bool:
        """Whether bfloat16 is converted to float32 and back at each step, as there are no instructions for it."""
        return {"BF16", "AMX"}.isdisjoint(self.has)


@cache
def processor() -> Processor:
    """This machine's."""
    try:
        return described(Path("/proc/cpuinfo").read_text("utf-8", "replace"), platform.machine())
    except OSError:  # not Linux
        machine = platform.machine()
        apple = platform.system() == "Darwin" and machine == "arm64"  # all of Apple's have them
        return Processor(platform.processor() or machine, ("NEON dot products",) if apple else ())


def described(text: str, machine: str) -> Processor:
    """Read what Linux says of a processor.

    Args:
        text: The content of ``/proc/cpuinfo``.
        machine: The architecture, e.g. ``x86_64``.
    """
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip().lower(), value.strip())
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    known = (_ARM if machine.lower() in {"aarch64", "arm64"} else _X86) if flags else {}
    has = tuple(name for name, any_of in known.items() if not flags.isdisjoint(any_of))
    return Processor(facts.get("model name") or machine, has, tuple(name for name in known if name not in has))


def same_everywhere(record: Mapping[str, Any]) -> bool:
    """Whether a graph of an export is known to give the same answer on every processor.

    Args:
        record: The graph's record in the manifest; exports of earlier versions do not say.
    """
    found: Any = record.get("processors")
    try:
        return set(KINDS) <= set(found["safe"])
    except (TypeError, KeyError):
        return False
