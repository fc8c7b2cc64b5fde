"""Names lead to models, and typos to a hint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sleeptime.core.errors import MissingKeyError, UnknownModelError
from sleeptime.models import open_model
from sleeptime.models.names import check_tiny


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "it is empty"),
        ("tny", "did you mean 'tiny'"),
        ("gpt-6-luna", "did you mean 'openai:gpt-6-luna'"),
        ("opnai:gpt-5-mini", "did you mean 'openai'"),
        ("nonesuch:x", "no provider 'nonesuch'"),
        ("gguf:", "no path after gguf:"),
        ("http://user:hunter2@127.0.0.1:1/v1#m", "holds no key"),
        ("http:///v1#m", "no host"),
    ],
)
async def test_a_name_that_leads_nowhere_comes_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        await open_model(name, environ={})

    assert hint in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.anyio
async def test_a_missing_client_names_the_extra_to_install() -> None:
    try:
        import anthropic  # noqa: F401, PLC0415 - whether it is installed decides what can be tested
    except ImportError:
        with pytest.raises(UnknownModelError, match=r"pip install .sleeptime\[anthropic\]"):
            await open_model("anthropic:claude-sonnet-4-5", environ={"ANTHROPIC_API_KEY": "k"})
    else:
        with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
            await open_model("anthropic:claude-sonnet-4-5", environ={})


def test_a_damaged_or_absent_tiny_model_is_told(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    with pytest.raises(UnknownModelError, match="install the package again"):
        check_tiny(model)
    model.write_bytes(b"GGUF")
    (tmp_path / "tiny.sha256").write_text("00  tiny.gguf\n")
    with pytest.raises(UnknownModelError, match="damaged"):
        check_tiny(model)


def test_the_seam_imports_no_client_before_a_model_is_opened() -> None:
    code = "import sys, sleeptime.models; print(*{'pydantic_ai', 'xllamacpp', 'openai', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
