"""Sleep on a repository after each of its commits, and compare with a sleep on the whole of it.

    python -m benchmarks.commits --repo click --commits 200

The newest commits of the first-parent line are replayed, oldest first, as `sleeptime update` and `sleeptime sleep`
would: the index of the commit becomes the context's text, and a sleep works on what changed. A scripted model writes a
note about every block of the text it is shown, with the block's first lines as evidence, so that a changed block costs
a new note. Tokens are words, as in `benchmarks.edits`.

    tokens     of the sleeps after commits, in parts of a sleep on the whole text (measured for every twentieth, and in
               proportion to length between): at most 5 % on average
    stands     the share of notes that a commit left standing
    over       sleeps that took more than 5 %
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sleeptime.core.budget import Budget
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.plan import Plan
from sleeptime.core.usage import Usage
from sleeptime.engine import Engine
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.repositories import telling
from sleeptime.repositories.checkout import Repository
from sleeptime.repositories.index import COMMITS, Indexer
from sleeptime.sleeper import Sleeper

ALLOWED = 0.05
MEASURED_EVERY = 20
NOTES_PER_ROUND = 40
PLAN = Plan(max_characters=10**7, budget=Budget(max_rounds=200))

_BLOCK = re.compile(r"^=== .+\n(?!=== )(?:(?!===|\[…\]|</?changed>).+\n?)+", re.MULTILINE)


@dataclass
class Tally:
    """What was counted over the commits of a repository."""

    blocks: int = 0
    sleeps: int = 0
    unchanged: int = 0
    ratios: list[float] = field(default_factory=list[float])
    changed: float = 0.0
    stood: int = 0
    notes: int = 0


def reply(messages: Sequence[Message], options: Options) -> Completion:
    """A note about each block that is shown and has none yet."""
    whole = "\n".join(message.content for message in messages)
    spent = len(whole.split()) + len(json.dumps([tool.parameters for tool in options.tools]).split())
    text = re.findall(r"^<context>\n(.*?)\n?^</context>$", whole, re.DOTALL | re.MULTILINE)[-1]
    text = re.sub(r"^</?changed>\n?", "", text, flags=re.MULTILINE)
    said = set(re.findall(r"block (\w{12})", whole))
    written: list[dict[str, object]] = []
    for found in _BLOCK.finditer(text):
        block = found[0].rstrip()
        heading = block.partition("\n")[0].removeprefix("=== ")
        mark = hashlib.sha256(block.encode()).hexdigest()[:12]
        if mark not in said:
            said.add(mark)
            note = f"Whoever changes {heading} should look at what stands beside it first (block {mark})."
            written.append({"kind": "inference", "text": note, "evidence": ["\n".join(block.split("\n")[:3])]})
    arguments = {"add": written[:NOTES_PER_ROUND], "done": len(written) <= NOTES_PER_ROUND}
    return Completion(
        text="",
        usage=Usage(input_tokens=spent, output_tokens=len(json.dumps(arguments).split())),
        model="scripted",
        tool_calls=(ToolCall(name="revise_notes", arguments=arguments),),
    )


async def measure(place: Path, commits: int) -> Tally:
    """Replay the newest *commits* of the repository at *place*."""
    repository, indexer, tally = Repository(place), Indexer(), Tally()
    line = repository.git(["rev-list", "--first-parent", f"--max-count={commits + 1}", "HEAD"]).decode().split()
    model = ScriptedModel(reply)
    with tempfile.TemporaryDirectory(prefix="commits-") as folder:
        environ = {"SLEEPTIME_HOME": folder}
        async with Engine.open(database=Path(folder) / "commits.db", model=model, environ=environ) as engine:
            full_per_character = 0.0
            for number, commit in enumerate(reversed(line)):
                checkout = repository.at(commit)
                text = telling.told(indexer.index(checkout, checkout.history(limit=COMMITS)), "replayed")
                if number == 0:
                    await engine.add(text, name="replayed")
                    before = await engine.sleep("replayed", PLAN)
                    full_per_character = before.usage.total_tokens / len(text)
                    continue
                edit = await engine.update("replayed", text)
                if not edit.is_change:
                    tally.unchanged += 1
                    tally.ratios.append(0.0)
                    continue
                after = await engine.sleep("replayed", PLAN)
                if number % MEASURED_EVERY == 0:
                    context = await engine.store.context("replayed")
                    now = context.created_at
                    full = await Sleeper(model, None, lambda: 0.0, lambda now=now: now).sleep(context, PLAN)
                    full_per_character = full.usage.total_tokens / len(text)
                tally.blocks = text.count("\n=== ")
                tally.sleeps += 1
                tally.ratios.append(after.usage.total_tokens / (full_per_character * len(text)))
                tally.stood += edit.kept
                tally.notes += edit.kept + len(edit.stale)
    return tally


def main() -> None:
    """Measure, print, and exit with 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", action="append", type=Path, required=True, help="a git repository, bare or not")
    parser.add_argument("--commits", type=int, default=200, help="of each repository")
    arguments = parser.parse_args()
    reached = True
    print("| repository | HEAD | commits | sleeps | blocks | notes that stand ", end="")
    print("| tokens of full | median | over 5 % | worst | s |")
    print("|---|---|" + "---:|" * 9)
    for place in arguments.repo:
        began = time.monotonic()
        tally = asyncio.run(measure(place, arguments.commits))
        mean = sum(tally.ratios) / max(1, len(tally.ratios))
        reached = reached and mean <= ALLOWED
        whole = place.resolve()
        name = whole.parent.name if whole.name in {".git", "repo"} else whole.name.removesuffix(".git")
        ordered = sorted(tally.ratios) or [0.0]
        print(
            f"| {name} | {Repository(place).resolve()[:8]} | {len(tally.ratios)} | {tally.sleeps} | {tally.blocks} "
            f"| {tally.stood / max(1, tally.notes):.1%} | {mean:.2%} | {ordered[len(ordered) // 2]:.2%} "
            f"| {sum(ratio > ALLOWED for ratio in ordered)} | {ordered[-1]:.1%} | {time.monotonic() - began:.0f} |",
            flush=True,
        )
    print(f"verdict: {'holds' if reached else 'MISSED'}: at most {ALLOWED:.0%} of a full sleep per commit on average")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
