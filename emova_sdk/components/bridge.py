"""A text model with ears and a voice; see `emova_sdk.components.brains`."""

from emova_sdk.components.brains.bridge import Bridge

__all__ = ["Bridge"]
