"""Prompt files, in sets: one set for each language that models are spoken to in.

A set falls back to `default` for a prompt it does not have.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sleeptime.core.errors import PromptError
from sleeptime.core.prompt import Prompt


@cache
def load(name: str, prompt_set: str = "default") -> Prompt:
    """Read the prompt *name* of *prompt_set*. Raises PromptError if neither it nor the default has it."""
    for folder in dict.fromkeys((prompt_set, "default")):
        file = files(__name__) / folder / f"{name}.md"
        if file.is_file():
            return Prompt.parse(file.read_text("utf-8"), where=f"prompts/{folder}/{name}.md")
    raise PromptError(f"There is no prompt {name!r}, neither in the set {prompt_set!r} nor in the default one.")
