"""Models to test: a random one on llama.cpp, and the shipped one where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.random_gguf import write_random_gguf


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf")
