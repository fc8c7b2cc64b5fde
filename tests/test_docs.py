"""The documents say what is true: blocks run, commands and files exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from sleeptime.cli import app

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TIMEOUT_S = 120


def test_every_block_of_the_tutorial_runs(tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLEEPTIME")}
    environ |= {"SLEEPTIME_HOME": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = 0
    for language, block in FENCE.findall((ROOT / "docs/tutorial.md").read_text()):
        command = {"sh": ["bash", "-euo", "pipefail", "-c", block], "python": [sys.executable, "-c", block]}.get(
            language
        )
        if command is None:
            continue
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        run += 1
    assert run >= 7


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    place = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", place.read_text()):
        assert target.startswith("https://") or (place.parent / target).exists(), target


def test_every_command_is_documented() -> None:
    documents = "".join((ROOT / page).read_text() for page in ("README.md", "docs/tutorial.md"))
    for name in get_command(app).commands:  # type: ignore[attr-defined]  # a group
        assert f"sleeptime {name}" in documents, name


def test_the_architecture_names_every_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    for file in sorted((ROOT / "src/sleeptime").rglob("*.py")):
        if file.stem != "__init__" and "migrations" not in file.parts:
            assert re.search(rf"\b{file.stem}\.py|`[^`]*\b{file.stem}\b[^`]*`", page), file


def test_no_prompt_holds_an_item_of_a_test_set() -> None:
    """The paper's older prompt quoted three items; ours hold no example at all."""
    for file in (ROOT / "src/sleeptime/prompts").rglob("*.md"):
        body = file.read_text().split("+++", 2)[2]
        assert not re.search(r"\d{2,}|for example|e\.g\.", body, re.IGNORECASE), file
