"""Where a run comes from: models, data, prompts, versions and this machine, so that it can be repeated.

This file measures nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from sleeptime import prompts
from sleeptime.core.errors import BudgetError
from sleeptime.core.usage import PriceCard
from sleeptime.evals.data.datasets import Dataset
from sleeptime.evals.runs.experiments import Experiment, joined
from sleeptime.evals.runs.results import Asked, Provenance
from sleeptime.evals.runs.run_folder import Settings
from sleeptime.models.names import TINY, TINY_PATH
from sleeptime.models.prices import price_card

_GIT_TIMEOUT_S = 5

PACKAGES = ("sleeptime", "inspect-ai", "pydantic-ai-slim", "xllamacpp", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The models of a run by name, and the language that the one that answers is spoken to in."""

    test: str
    sleep: str
    scoring: str
    prompt_set: str


def settings_of(
    experiments: Sequence[Experiment],
    dataset: Dataset,
    names: Names,
    *,
    seeds: Sequence[int] = (),
    limit: int | None = None,
    split: str = "",
    cards: Sequence[PriceCard] = (),
) -> Settings:
    """All of a run that is known before it begins. *cards* are the user's own prices."""
    return Settings(
        experiments=tuple(experiment.id for experiment in experiments),
        cells=joined([cell for experiment in experiments for cell in experiment.cells]),
        asked=tuple(
            Asked(
                id=sample.id,
                context_id=sample.context_id,
                cluster=sample.cluster,
                question=sample.question,
                target=sample.target,
                stratum=sample.stratum,
                depth=sample.depth,
            )
            for sample in dataset.samples
        ),
        price=card_of(names.test, cards),
        sleep_price=card_of(names.sleep, cards),
        provenance=Provenance(
            model=names.test,
            sleep_model=names.sleep,
            scoring_model=names.scoring,
            dataset=dataset.name,
            dataset_sha256=dataset.sha256,
            dataset_source=dataset.source,
            licence=dataset.licence,
            split=split,
            seeds=tuple(seeds),
            limit=limit,
            prompt_fingerprints=prompt_fingerprints(names.prompt_set),
            machine=machine(),
            versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
            commit=checked_out_commit(),
            began_at=datetime.now(UTC),
            wall_s=0.0,
            model_sha256=hashlib.sha256(TINY_PATH.read_bytes()).hexdigest() if names.test == TINY else None,
        ),
    )


def prompt_fingerprints(prompt_set: str) -> dict[str, str]:
    """The fingerprint of every prompt that a model of this set can be shown."""
    names = sorted(
        entry.name.removesuffix(".md")
        for entry in resources.files(prompts).joinpath("default").iterdir()
        if entry.name.startswith(("answer-", "sleep-", "guess"))
    )
    return {name: prompts.load(name, prompt_set).fingerprint for name in names}


def card_of(name: str, cards: Sequence[PriceCard] = ()) -> PriceCard | None:
    """The prices of a model by the library's name for it; Inspect writes `openai/…` for `openai:…`."""
    name = name if ":" in name else name.replace("/", ":", 1)
    return price_card(name, cards=cards, today=datetime.now(UTC).date())


def money_cap(asked: float | None, usual: float, priced: Mapping[str, PriceCard | None]) -> float | None:
    """The cap on money to hold: what was *asked* for, else the *usual* one where the prices of all models are known.

    Raises BudgetError where a cap was asked for and a price is unknown, so that it could not hold.
    """
    unknown = next((name for name, card in priced.items() if card is None), None)
    if asked is not None and unknown is not None:
        raise BudgetError(
            f"No price is known of {unknown}, so a cap on money cannot hold. Give its prices with --prices FILE."
        )
    return usual if asked is None and unknown is None else asked


def checked_out_commit() -> str | None:
    """The commit this code was checked out at, with a + where files differ from it; None outside a checkout."""
    root = Path(__file__).parents[4]
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


def machine() -> str:
    """Name this machine as far as it tells: cores and processor."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
