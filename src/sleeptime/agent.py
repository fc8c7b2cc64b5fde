"""Change a repository in steps, with or without what was learned about it.

    T_b(task, c′) → patch      Agent.solve(task, checkout, known, steps=b) → AgentAnswer

A step is one model call and the tools it calls; after each the model is shown how many it has used. What is said
only grows: the prompt of a step is that of the step before, with the reply and its results behind it, so providers'
prompt caches hold. Calls and results are written as text between the two roles every model knows (decision 20).

A model that errs loses a step: an unknown tool, arguments that do not fit, a path that leads out, an edit that finds
nothing. The same call again, with nothing changed in between, is not carried out. Budgets are checked before each
call.

This file knows nothing about jobs, HTTP or SQL, and decides nothing that `core.agency` decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import anyio.lowlevel
import anyio.to_thread

from sleeptime import prompts
from sleeptime.core import agency, policy
from sleeptime.core.agency import AgentAnswer, Outcome, Progress
from sleeptime.core.budget import Budget
from sleeptime.core.errors import ContextTooLongError, ModelError, NotSupportedError
from sleeptime.core.messages import UNREADABLE, Completion, Message, Tool, ToolCall
from sleeptime.core.notes import Note
from sleeptime.core.usage import PriceCard
from sleeptime.models.protocol import Model, Options
from sleeptime.models.window import room_for_reply
from sleeptime.repositories.checkout import Checkout
from sleeptime.repositories.tools import WORKING, Result, carry_out, read_written, written
from sleeptime.repositories.worktree import Worktree

STEP_OUTPUT_TOKENS = 8192
"""What one step may say where nothing caps it."""
MOST_CALLS = 8
"""Calls of one step that are carried out; a budget in steps should not be a budget without end."""
MOST_SAID = 4_000
"""Characters of a reply, and of a call's arguments, that are shown again in later steps."""

_CALL = re.compile(r"<call>(.*?)(?:</call>|\Z)", re.DOTALL)
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(slots=True)
class _Work:
    """An agent's work under way: the worktree, what was said, and which calls were made since the last change."""

    worktree: Worktree
    messages: list[Message]
    progress: Progress = field(default_factory=Progress)
    summary: str = ""
    is_plain: bool = False
    made: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Agent:
    """T for repositories: solves tasks with one model. `price` lets money caps hold."""

    model: Model
    price: PriceCard | None
    clock_s: Callable[[], float]

    async def solve(
        self,
        task: str,
        checkout: Checkout,
        *,
        steps: int,
        known: str = "",
        version: int | None = None,
        budget: Budget = Budget(),
        on_step: Callable[[Progress], None] | None = None,
    ) -> AgentAnswer:
        """Change what *task* asks for within *steps* and *budget*'s tokens and money.

        *known* stands before the task: what was learned, or anything else to read first; *version* says which.
        A model that fails is an outcome, with what was changed until then.
        Raises BudgetError, and ContextTooLongError before any token is spent.
        """
        agency.check_steps(steps)
        started_s = self.clock_s()
        work = _Work(Worktree(checkout), [], is_plain=not self.model.abilities.tools)
        work.messages = list(self.messages(task, known, steps, is_plain=work.is_plain))
        ended: Outcome | None = None
        error = ""
        while ended is None:
            await anyio.lowlevel.checkpoint()  # the work can be stopped between steps, whatever its model does
            try:
                ended = await self._step(task, known, steps, budget, work)
            except ContextTooLongError:
                if not work.progress.steps:
                    raise
                ended = "window"
            except ModelError as failure:
                ended, error = "error", f"{type(failure).__name__}: {failure}"
            if on_step is not None:
                on_step(work.progress)
        done, tree = work.progress, work.worktree
        return AgentAnswer(
            task=task,
            commit=checkout.commit,
            patch=await anyio.to_thread.run_sync(tree.patch),
            modified=tree.modified,
            created=tree.created,
            summary=work.summary,
            outcome=ended,
            steps=done.steps,
            calls=done.calls,
            refused=done.refused,
            model=self.model.name,
            usage=done.usage,
            cost_usd=done.cost_usd,
            latency_s=self.clock_s() - started_s,
            version=version,
            error=error,
        )

    def known(self, notes: Sequence[Note]) -> str:
        """Write *notes* as what stands before a task; nothing where there are none."""
        return prompts.load("agent", self.model.abilities.prompt_set).notes(notes)

    def messages(self, task: str, known: str, steps: int, *, is_plain: bool) -> tuple[Message, ...]:
        """What the first step shows the model; later ones only add to it."""
        prompt = prompts.load("agent-plain" if is_plain else "agent", self.model.abilities.prompt_set)
        counter = agency.counter(Progress(), steps)
        return prompt.render({"known": known, "task": task, "counter": counter, "tools": _described(WORKING)})

    async def _step(self, task: str, known: str, steps: int, budget: Budget, work: _Work) -> Outcome | None:
        """Make one call, carry out what it asks, and say why the work ends, if it does."""
        tools = () if work.is_plain else WORKING
        allowed = await self._allowed(work, tools, budget)
        if allowed == 0:
            return "budget"
        options = Options(
            max_output_tokens=allowed,
            temperature=0.0 if self.model.abilities.sampling else None,
            tools=tools,
        )
        try:
            completion = await self.model.generate(work.messages, options)
        except NotSupportedError:
            if not tools or self.model.abilities.tools:
                raise
            work.is_plain = True
            work.messages = list(self.messages(task, known, steps, is_plain=True))
            return await self._step(task, known, steps, budget, work)
        calls = _plain_calls(completion.text) if work.is_plain else completion.tool_calls
        calls = calls or read_written(_THINKING.sub("", completion.text))
        results = await anyio.to_thread.run_sync(_carried_out, calls, work)
        refused = sum(result.is_refused for result in results)
        is_lost = not any(result.is_read for result in results)
        ends = [result.text for result in results if result.is_end]
        work.summary = ends[-1] if ends else work.summary
        work.progress = work.progress.stepped(
            completion.usage,
            self.price.cost_usd(completion.usage) if self.price else None,
            calls=len(results) - refused,
            refused=refused,
            is_lost=is_lost,
            is_done=bool(ends),
        )
        told = [result.text for result in results] or [_nothing_called(completion, is_plain=work.is_plain)]
        work.messages += [
            Message("assistant", _said(completion, calls, is_plain=work.is_plain)),
            Message("user", "\n\n".join([*told, agency.counter(work.progress, steps)])),
        ]
        has_changes = bool(work.worktree.modified or work.worktree.created) if ends else True
        return agency.outcome(work.progress, steps=steps, budget=budget, has_changes=has_changes)

    async def _allowed(self, work: _Work, tools: Sequence[Tool], budget: Budget) -> int:
        """How many output tokens the next step may ask for; 0 for none."""
        room = await room_for_reply(self.model, work.messages, tools=tools, wanted=STEP_OUTPUT_TOKENS)
        input_tokens = 0
        if budget.max_cost_usd is not None:
            input_tokens = (await self.model.count_tokens(work.messages, tools=tools)).tokens
        return policy.call_output_tokens(
            budget,
            work.progress.usage,
            work.progress.cost_usd,
            input_tokens=input_tokens,
            price=self.price,
            default=room,
        )


_CHANGING = frozenset({"edit", "create"})


def _carried_out(calls: Sequence[ToolCall], work: _Work) -> list[Result]:
    """Carry out *calls* in order, up to the one that ends the work."""
    results: list[Result] = []
    for at, call in enumerate(calls):
        if at == MOST_CALLS:
            left = len(calls) - MOST_CALLS
            words = f"One step carries out {MOST_CALLS} calls. The {left} more were left out; make them in the next."
            results.append(Result(text=words, is_refused=True, is_read=False))
            break
        key = written(call)
        if key in work.made:
            words = f"You called this in step {work.made[key]}; nothing has changed since, and its result stands above."
            results.append(Result(text=words, is_refused=True, is_read=False))
            continue
        result = carry_out(call, work.worktree, WORKING)
        results.append(result)
        if result.is_end:
            break
        if not result.is_refused and call.name in _CHANGING:
            work.made.clear()
        else:
            work.made[key] = work.progress.steps + 1
    return results


def _said(completion: Completion, calls: Sequence[ToolCall], *, is_plain: bool) -> str:
    """What the model said, as later steps show it. Plain calls stand in its text already."""
    said = _THINKING.sub("", completion.text).strip()
    lines = [said[:MOST_SAID]] if said else []
    if not is_plain and completion.tool_calls:
        lines += [_shortened(written(call)) for call in calls]
    return "\n".join(lines) or "(nothing)"


def _shortened(line: str) -> str:
    return line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]}… ({len(line):,} characters in all)"


def _nothing_called(completion: Completion, *, is_plain: bool) -> str:
    cut = " Your reply was cut off by its token cap." if completion.finish_reason == "length" else ""
    how = "Write one between <call> and </call>." if is_plain else "Call one."
    return f"No tool was called, so nothing was done.{cut} {how} finish ends the work."


def _plain_calls(text: str) -> tuple[ToolCall, ...]:
    """Read the calls between `<call>` and `</call>`; what is no JSON object is kept as it came."""
    return tuple(_plain_call(found[1].strip()) for found in _CALL.finditer(_THINKING.sub("", text)))


def _plain_call(line: str) -> ToolCall:
    try:
        value: Any = json.loads(line, strict=False)  # Any: what the model wrote
    except (json.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return ToolCall(name="call", arguments={UNREADABLE: line})
    arguments = {str(key): each for key, each in cast("dict[str, Any]", value).items()}
    return ToolCall(name=str(arguments.pop("tool", "")), arguments=arguments)


def _described(tools: Sequence[Tool]) -> str:
    """Describe *tools* in words, a line each."""
    lines: list[str] = []
    for tool in tools:
        properties, required = tool.parameters["properties"], tool.parameters["required"]
        told = [f"{key} ({each['type']}): {each['description']}" for key, each in properties.items()]
        must = f" Needs {', '.join(required)}." if required else ""
        lines.append(f"- {tool.name}: {tool.description}{must} {' '.join(told)}".rstrip())
    return "\n".join(lines)
