"""What a processor offers, read from what systems say of it."""

from __future__ import annotations

import pytest

from emova_sdk.cli import diagnosis
from emova_sdk.processor import KINDS, Processor, described, processor, same_everywhere

EPYC = "processor : 0\nmodel name : AMD EPYC\nflags : sse2 avx2 fma f16c\n\nprocessor : 1\nmodel name : AMD EPYC\nflags : sse2 avx2\n"
XEON = "model name\t: Xeon\nflags\t\t: avx2 avx512f avx512bw avx512_vnni avx512_bf16 amx_bf16 amx_int8 amx_tile\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimddp sve i8mm bf16\nCPU implementer\t: 0x41\n"
PI = "processor\t: 0\nFeatures\t: fp asimd crc32\n"


@pytest.mark.parametrize(
    ("text", "machine", "has", "saturates", "slow"),
    [
        (EPYC, "x86_64", ("AVX2",), True, True),
        (XEON.replace(" avx512_vnni", "").split(" avx512_bf16")[0], "x86_64", ("AVX2", "AVX-512"), True, True),
        (XEON, "x86_64", ("AVX2", "AVX-512", "VNNI", "BF16", "AMX"), False, False),
        ("flags : avx2 avx_vnni", "x86_64", ("AVX2", "VNNI"), False, True),
        ("flags : sse2", "x86_64", (), False, True),
        (GRAVITON, "aarch64", ("NEON dot products", "I8MM", "SVE", "BF16"), False, False),
        (PI, "aarch64", (), False, True),
        ("", "riscv64", (), False, True),
    ],
)
def test_what_a_processor_offers(text: str, machine: str, has: tuple[str, ...], saturates: bool, slow: bool) -> None:
    found = described(text, machine)
    assert (found.has, found.saturates, found.slow_in_bfloat16) == (has, saturates, slow)
    assert not set(found.has) & set(found.lacks)


def test_where_the_system_says_nothing_nothing_is_claimed() -> None:
    assert described("", "x86_64") == Processor("x86_64")


def test_doctor_shows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "processor", lambda: described(EPYC, "x86_64"))
    assert diagnosis.check_processor().detail == "AMD EPYC: AVX2; without AVX-512, VNNI, BF16, AMX"
    monkeypatch.setattr(diagnosis, "processor", lambda: described("", "arm64"))
    assert diagnosis.check_processor().detail == "arm64: nothing is known of its instructions"
    assert processor().name


@pytest.mark.parametrize("record", [{}, {"processors": None}, {"processors": "all"}, {"processors": {"safe": list(KINDS[2:])}}])
def test_an_export_that_does_not_say_is_not_trusted(record: dict[str, object]) -> None:
    assert not same_everywhere(record)
    assert same_everywhere({"processors": {"safe": [*KINDS, "one more"], "because": "it was found"}})
