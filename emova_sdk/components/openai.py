"""Language models behind OpenAI-compatible endpoints; see `emova_sdk.components.brains`."""

from emova_sdk.components.brains.openai import OpenAICore

__all__ = ["OpenAICore"]
