"""The demo as one call: the shipped model, a store in a folder that is gone afterwards, no network.

measure_tiny(contexts=32, seed=20504) → DemoResult
"""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from sleeptime.engine import Engine
from sleeptime.evals.curves import DemoResult
from sleeptime.evals.demo import PRICED_AS, run_demo

MODEL = "tiny"
_GIT_TIMEOUT_S = 5


async def measure_tiny(
    *,
    contexts: int,
    queries_per_context: int,
    seed: int,
    family: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoResult:
    """Run the demo on the tiny model. Nothing of the user's own store is read or written. Raises ModelError."""
    with TemporaryDirectory(prefix="sleeptime-demo-") as folder:
        async with Engine.open(database=Path(folder) / "demo.db", model=MODEL, environ={}) as engine:
            return await run_demo(
                engine,
                model=MODEL,
                model_sha256=tiny_sha256(),
                contexts=contexts,
                queries_per_context=queries_per_context,
                seed=seed,
                family=family,
                price=engine.price_card(PRICED_AS),
                measured_on=datetime.now(UTC).date(),
                commit=checked_out_commit(),
                on_progress=on_progress,
            )


def tiny_sha256() -> str:
    """The hash that ships beside the weights; opening the model has compared the two."""
    return (resources.files("sleeptime") / "data/tiny.sha256").read_text("utf-8").split()[0]


def checked_out_commit() -> str | None:
    """The commit this code was checked out at, with a + where files differ from it; None outside a checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True)  # noqa: S603  # fixed arguments
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
