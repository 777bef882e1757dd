"""Text that every file, database and console can hold."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """Return ``text`` without halves of characters: two that belong together are joined, a lone one becomes U+FFFD.

    Consoles of another encoding and byte-level tokenizers produce such halves (lone surrogates), which UTF-8 cannot encode.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
