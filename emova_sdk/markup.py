"""Removes SSML, HTML and Markdown markup from text to be spoken.

Breaks and blocks become punctuation, so that there is a pause. Of a link its text is kept, of a bare address the host.
"""

import html
import re

from emova_sdk.substitutions import rule, substitute

_ATTRIBUTES = r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=]+))*"""
_BLOCKS = "p|s|div|br|hr|h[1-6]|ul|ol|li|tr|table|section|article|blockquote|pre|par|voice"
_SPELT = "characters|character|spell-out|spell|verbatim|letters"


def _named(name: str) -> str:
    return rf"<{name}\b({_ATTRIBUTES})\s*>(.*?)</{name}\s*>"


def _sub(match: re.Match[str]) -> str:
    """What stands for it: `<sub alias="doctor">Dr</sub>`."""
    alias = re.search(r"""\balias\s*=\s*(?:"([^"]*)"|'([^']*)')""", match[1])
    return (alias[1] or alias[2] or "") if alias else match[2]


def _say_as(match: re.Match[str]) -> str:
    kind = re.search(rf"""\binterpret-as\s*=\s*["']?(?:({_SPELT})|(digits|telephone)|(ordinal))\b""", match[1])
    content = match[2].strip()
    if not kind:
        return match[2]
    if kind[3]:
        return f"{content}th" if content.isdecimal() else content
    return ", ".join(" ".join(group) for group in content.split())


def _line(match: re.Match[str]) -> str:
    """A heading or an item ends like a sentence."""
    content = match[1] if match[1] is not None else match[2]
    return content if content.endswith((".", "!", "?", ":", ",", ";")) else f"{content}."


_TAGS = (
    rule(r"(?s)<!--.*?-->|<\?.*?\?>|<!\[CDATA\[|\]\]>|<!doctype[^>]*>", ""),
    rule(r"(?s)<(script|style|metadata)\b[^>]*>.*?</\1\s*>", " "),
    rule(rf"(?s){_named('sub')}", _sub),
    rule(rf"(?s){_named('say-as')}", _say_as),
    rule(r"<((?:https?://|mailto:)[^<>\s]+|[^<>\s@]+@[^<>\s@]+)>", r" \1 "),
    rule(rf"<break\b{_ATTRIBUTES}\s*/?>(?:\s*</break\s*>)?", ", "),
    rule(rf"</?(?:{_BLOCKS})\b{_ATTRIBUTES}\s*/?>", ". "),
    rule(rf"</?(?:td|th|dd|dt)\b{_ATTRIBUTES}\s*/?>", ", "),
    rule(rf"</?[a-z][\w:.-]*{_ATTRIBUTES}\s*/?>", ""),
    rule(r"""<[a-z][\w:-]*\s+[\w:-]+\s*=\s*["'][^<>]*$""", ""),  # the text ends within a tag
    rule(r"&(?:[a-z]\w*|#\d+|#x[0-9a-f]+);", lambda match: html.unescape(match[0])),
)
_MARKDOWN = (
    rule(r"(?m)^[ \t]*(?:`{3,}|~{3,})[\w+#.-]*[ \t]*$", ""),  # a fence and its language
    rule(r"`{3,}", " "),
    rule(r"(?m)^[ \t]*\[[^\]\n]+\]:[ \t]*\S+.*$", ""),  # where a link leads
    rule(r"(?m)^[ \t|:-]*-{3}[ \t|:-]*$|^[ \t]*(?:[*_=][ \t]*){3,}$", ". "),  # a line across, or under the head of a table
    rule(r"(?m)^[^\n|]*\|[^\n]*$", lambda match: match[0].strip(" \t|").replace("|", ", ") + "."),
    rule(
        r"(?m)^[ \t]*(?:#{1,6}[ \t]+(.*?)[ \t#]*|(?:[-*+\u2022][ \t]+|(?=\d{1,3}[.)][ \t]))(.*?))[ \t]*$",
        _line,
    ),
    rule(r"(?m)^[ \t]*(?:>[ \t]+)+", ""),
    rule(r"!?\[([^\[\]]*)\]\((?:[^()\n]|\([^()\n]*\))*\)", r"\1"),
    rule(r"\[([^\[\]^]+)\]\[[^\[\]]*\]", r"\1"),
    rule(r"\[\^[^\[\]\s]+\]", ""),
    rule(r"(?<![\w*_~`])(?:[*_`]+|~~)(?=[^\s*_~`])|(?<=[^\s*_~`])(?:[*_`]+|~~)(?![\w*_~`])", ""),
    rule(r"\n[ \t]*\n\s*", ". "),
)
_ADDRESS = rule(
    r"\b(?:https?|ftp|wss?)://(?:[^\s/@<>]*@)?(?:www\.)?([^\s/:?#<>()\[\]\"']+)(?::\d+)?(?:[/?#][^\s<>\"']*?)?(?=[.,;:!?)\]]*(?:[\s<>\"']|$))"
    r"|\bwww\.([a-z\d.-]*[a-z\d])(?::\d+)?(?:[/?#][^\s<>\"']*?)?(?=[.,;:!?)\]]*(?:[\s<>\"']|$))",
    lambda match: (match[1] or match[2]).lower(),
)


def without_markup(text: str) -> str:
    """The text without its SSML, HTML and Markdown."""
    if "<" in text or "&" in text:
        text = substitute(text, _TAGS)
    return substitute(text, (*_MARKDOWN, _ADDRESS))
