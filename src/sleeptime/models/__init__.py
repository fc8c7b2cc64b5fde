"""The seam to language models."""

from sleeptime.models.names import open_model
from sleeptime.models.scripted import ScriptedModel

__all__ = ["ScriptedModel", "open_model"]
