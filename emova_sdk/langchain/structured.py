"""Answers in the form of a schema, for models that are asked for JSON rather than for a tool call."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

__all__ = ["parsed"]


def parsed(asked: Runnable[Any, Any], schema: Any, *, include_raw: bool) -> Runnable[Any, Any]:
    """Read what a model answers: as an instance of ``schema`` if it is a pydantic class, as a dict otherwise.

    Args:
        asked: The model, bound to the schema.
        schema: The schema.
        include_raw: Whether to return ``raw``, ``parsed`` and ``parsing_error`` instead of raising.
    """
    pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: Any = PydanticOutputParser(pydantic_object=schema) if pydantic else JsonOutputParser()
    if not include_raw:
        return asked | parser
    tried = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | tried.with_fallbacks([failed], exception_key="parsing_error")
