"""Think about a context before anyone asks about it.

    S(c) → c′      Sleeper.sleep(context, plan) → LearnedContext

Each round shows the model the context and what it has written so far, and folds
its reply into a new draft. A sample ends when the model says it is done, a round
changes nothing, a cap is reached, or another round is not expected to pay; `stop_reasons` say which. k samples sleep in
parallel and are joined in order. On a text that was edited since an earlier sleep, every
sample begins with the notes that still stand, and is shown what changed.

A round of strategy `explore` may look around in a repository first, a few calls long, and then writes its notes. What
it looked at is not kept: the notes are the state (decision 1), and a round that a kill cut short looks again.

This file knows nothing about queries, jobs, HTTP or SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import anyio
import anyio.lowlevel
import anyio.to_thread

from sleeptime import prompts
from sleeptime.core import policy, replies
from sleeptime.core.budget import Budget
from sleeptime.core.changes import Changes
from sleeptime.core.context import Context
from sleeptime.core.errors import CapReached, ContextTooLongError, NoRepositoryError, NotSupportedError, SleeptimeError
from sleeptime.core.holding import held_draft
from sleeptime.core.messages import Completion, Message, Tool
from sleeptime.core.notes import Draft, LearnedContext, Revision, StopReason, concatenated, cut
from sleeptime.core.plan import Plan, StrategyName
from sleeptime.core.prompt import Prompt
from sleeptime.core.redundancy import COVERED, covered
from sleeptime.core.replies import UnreadableReplyError
from sleeptime.core.usage import PriceCard, Usage, sum_costs
from sleeptime.models.protocol import Model, Options
from sleeptime.models.window import room_for_reply
from sleeptime.repositories.checkout import Checkout
from sleeptime.repositories.tools import LOOKING, carry_out, read_written, written


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A way to sleep: a prompt, the tools a round may call, and how its reply is read.

    `plain` and `read_plain` serve models without tools. `looks` are tools that a round may call before these.
    """

    prompt: str
    tools: tuple[Tool, ...]
    read: Callable[[Completion, Draft], Revision]
    plain: str
    read_plain: Callable[[Completion, Context, Draft, Prompt], Revision]
    looks: tuple[Tool, ...] = ()


_NOTES = Strategy(
    prompt="sleep-notes",
    tools=(replies.REVISE_NOTES,),
    read=lambda completion, _draft: replies.revising(completion),
    plain="sleep-notes-plain",
    read_plain=lambda completion, context, draft, prompt: replies.revising_plain(
        completion, context, draft.notes, is_fenced=prompt.reply == "fenced"
    ),
)
_STRATEGIES: dict[StrategyName, Strategy] = {
    "notes": _NOTES,
    "explore": replace(_NOTES, prompt="sleep-explore", looks=LOOKING),
    "rethink": Strategy(
        prompt="sleep-rethink",
        tools=(replies.RETHINK_MEMORY, replies.FINISH_RETHINKING),
        read=lambda completion, draft: replies.rethinking(completion, draft.notes),
        plain="sleep-rethink-plain",
        read_plain=lambda completion, _context, draft, _prompt: replies.rethinking_plain(completion, draft.notes),
    ),
}

OnDraft = Callable[[Draft, Completion], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sleeper:
    """S: sleeps on contexts with one model. `price` lets money caps hold; `clock_s` is monotonic.

    `checkout` is the repository that strategy `explore` looks around in. What passages of `documented` say is not kept
    as a note, and the model is told.
    """

    model: Model
    price: PriceCard | None
    clock_s: Callable[[], float]
    now: Callable[[], datetime]
    checkout: Checkout | None = None
    documented: tuple[frozenset[str], ...] = ()

    async def sleep(
        self,
        context: Context,
        plan: Plan,
        *,
        drafts: Sequence[Draft] = (),
        changes: Changes | None = None,
        on_draft: OnDraft | None = None,
    ) -> LearnedContext:
        """Think about *context* as *plan* says, going on from *drafts* where given.

        With *changes*, think about these alone, and keep the notes that still stand.

        *on_draft* is awaited with the new draft and the completion it was made of after every model call, so that
        what was paid for can be kept.
        Raises ContextTooLongError before any token is spent, and ModelError.
        """
        if _STRATEGIES[plan.strategy].looks and self.checkout is None:
            raise NoRepositoryError(context.name, "it was opened as a text")
        begun = {draft.sample: draft for draft in drafts}
        budget = plan.budget.shared_by(plan.samples)
        ended: dict[int, tuple[Draft, StopReason]] = {}

        async def one(sample: int) -> None:
            draft = begun.get(sample) or begin(changes, sample, context, None)
            ended[sample] = await self._sample(context, plan, budget, draft, changes, on_draft)

        try:
            async with anyio.create_task_group() as group:
                for sample in range(plan.samples):
                    group.start_soon(one, sample)
        except* SleeptimeError as errors:
            raise _first(errors) from errors
        finished = [ended[sample][0] for sample in range(plan.samples)]
        base = changes.base if changes else None
        return self.joined(context, plan, finished, [ended[sample][1] for sample in range(plan.samples)], base)

    def joined(
        self,
        context: Context,
        plan: Plan,
        drafts: Sequence[Draft],
        reasons: Sequence[StopReason],
        base: LearnedContext | None = None,
    ) -> LearnedContext:
        """Make a learned context, not published yet, of what *drafts* hold, which began with notes of *base*."""
        return LearnedContext(
            context_id=context.id,
            context_fingerprint=context.fingerprint,
            notes=concatenated(drafts, base.notes if base else ()),
            strategy=plan.strategy,
            model=self.model.name,
            prompt_fingerprint=self.prompt(plan, drafts[0]).fingerprint,
            usage=sum((draft.usage for draft in drafts), Usage()),
            cost_usd=sum_costs([draft.cost_usd for draft in drafts]),
            stop_reasons=tuple(reasons),
            rounds=sum(draft.rounds for draft in drafts),
            failed_rounds=sum(draft.failed_rounds for draft in drafts),
            samples=plan.samples,
            created_at=self.now(),
            sections=context.fingerprints,
            plan=self.identity(plan),
            based_on=base.version if base else None,
        )

    def identity(self, plan: Plan) -> str:
        """What decides the outcome of a sleep, as text: the model and *plan* without its caps."""
        return f"{self.model.name} {plan.identity}"

    def can_keep_notes(self, plan: Plan) -> bool:
        """Whether a sleep under *plan* can begin with notes of an earlier text: its prompt has words for that."""
        return bool(self.prompt(plan, Draft()).edited)

    def tools(self, plan: Plan, draft: Draft) -> tuple[Tool, ...]:
        """The tools the next round writes with; none where it is asked in plain text."""
        has_tools = self.model.abilities.tools and not draft.is_plain
        return _STRATEGIES[plan.strategy].tools if has_tools else ()

    def prompt(self, plan: Plan, draft: Draft) -> Prompt:
        """The prompt file that the next round is asked with."""
        strategy = _STRATEGIES[plan.strategy]
        name = strategy.prompt if self.tools(plan, draft) else strategy.plain
        return prompts.load(name, self.model.abilities.prompt_set)

    def messages(
        self, context: Context, plan: Plan, draft: Draft, changes: Changes | None = None
    ) -> tuple[Message, ...]:
        """What the next round shows the model. All but the end is the same in every round."""
        prompt = self.prompt(plan, draft)
        state = _state(plan, draft)
        if changes is None:
            return prompt.render({"context": context.shown, "notes": prompt.notes(draft.seen), "state": state})
        seen = changes.seen(draft.seen)
        state = f"{prompt.edited}\n\n{state}"
        return prompt.render({"context": changes.text, "notes": prompt.notes(seen), "state": state})

    async def room(
        self,
        context: Context,
        plan: Plan,
        draft: Draft,
        changes: Changes | None = None,
        looked: tuple[Message, ...] = (),
    ) -> int:
        """How many output tokens the window leaves for the next call. Raises ContextTooLongError."""
        return await room_for_reply(
            self.model,
            (*self.messages(context, plan, draft, changes), *looked),
            tools=(*self._looks(plan, draft), *self.tools(plan, draft)),
            wanted=policy.DEFAULT_ROUND_OUTPUT_TOKENS,
        )

    async def _sample(
        self,
        context: Context,
        plan: Plan,
        budget: Budget,
        draft: Draft,
        changes: Changes | None,
        on_draft: OnDraft | None,
    ) -> tuple[Draft, StopReason]:
        if changes is not None and not changes.text:
            return draft, "settled"  # the edit left nothing to think about
        started_s = self.clock_s()
        worth = plan.worth.shared_by(plan.samples) if plan.worth else None
        while (stop := policy.stop_reason(draft, budget, elapsed_s=self.clock_s() - started_s, worth=worth)) is None:
            for attempt in range(policy.ROUND_ATTEMPTS):
                is_last = attempt + 1 == policy.ROUND_ATTEMPTS
                draft, is_read, ended = await self._attempt(
                    context, plan, budget, draft, changes, on_draft, is_last=is_last
                )
                if ended is not None:
                    return draft, ended
                if is_read:
                    break
        return draft, stop

    async def _attempt(
        self,
        context: Context,
        plan: Plan,
        budget: Budget,
        draft: Draft,
        changes: Changes | None,
        on_draft: OnDraft | None,
        *,
        is_last: bool,
    ) -> tuple[Draft, bool, StopReason | None]:
        """Ask for one round's notes, behind whatever it looks at first.

        Says whether the reply could be read, and what ended the sleep instead, if anything did.
        """
        looked: tuple[Message, ...] = ()
        for call in range(1, policy.calls_of_round(plan.strategy) + 1):
            await anyio.lowlevel.checkpoint()  # a sleep can be stopped between calls, whatever its model does
            left = policy.most_looked(plan.strategy) - sum(len(message.content) for message in looked)
            is_free = call < policy.calls_of_round(plan.strategy) and left > 0
            looks = self._looks(plan, draft) if is_free else ()
            try:
                allowed = await self._allowed(context, plan, budget, draft, changes, looked)
                if allowed == 0:
                    return draft, False, "budget"
                asked = (*self.messages(context, plan, draft, changes), *looked)
                draft, completion = await self._ask(context, plan, draft, changes, asked, looks, allowed)
            except ContextTooLongError:
                if draft.usage == Usage():
                    raise
                return draft, False, "window"  # what was learned outgrew it, by our count or by the provider's
            except CapReached:
                return draft, False, "budget"
            seen = () if draft.is_plain else await self._looked(completion, looks, left)
            is_read = False
            if not seen:
                draft, is_read = self._read(context, plan, draft, changes, completion, is_last=is_last)
            if on_draft is not None:
                await on_draft(draft, completion)
            if not seen:
                return draft, is_read, None
            looked += seen
        raise AssertionError("the last call of a round has nothing to look with")

    async def _ask(
        self,
        context: Context,
        plan: Plan,
        draft: Draft,
        changes: Changes | None,
        asked: Sequence[Message],
        looks: tuple[Tool, ...],
        allowed: int,
    ) -> tuple[Draft, Completion]:
        """Make one call, and count it. A model that turns out to have no tools is asked in plain text from then on."""
        tools = self.tools(plan, draft)
        options = Options(
            max_output_tokens=allowed,
            temperature=plan.sampling_temperature if self.model.abilities.sampling else None,
            seed=draft.sample if plan.samples > 1 else None,
            effort=plan.effort,
            tools=(*looks, *tools),
        )
        try:
            completion = await self.model.generate(asked, options)
        except NotSupportedError:
            if tools and not self.model.abilities.tools:
                draft = replace(draft, is_plain=True)
                asked = self.messages(context, plan, draft, changes)
                return await self._ask(context, plan, draft, changes, asked, (), allowed)
            raise
        price = self.price and self.price.served(completion.tier)
        cost_usd = price.cost_usd(completion.usage) if price else None
        if looks and not completion.tool_calls:
            completion = replace(completion, text="", tool_calls=read_written(completion.text))
        return draft.spent(completion.usage, cost_usd), completion

    def _looks(self, plan: Plan, draft: Draft) -> tuple[Tool, ...]:
        return _STRATEGIES[plan.strategy].looks if self.tools(plan, draft) else ()

    async def _looked(self, completion: Completion, looks: Sequence[Tool], left: int) -> tuple[Message, ...]:
        """Carry out a reply that does nothing but look around: what was said and seen, *left* characters at most.

        Nothing for other replies.
        """
        names = {tool.name for tool in looks}
        calls = completion.tool_calls
        if self.checkout is None or not calls or any(call.name not in names for call in calls):
            return ()
        calls = calls[: policy.MOST_LOOKS]
        results = [await anyio.to_thread.run_sync(carry_out, call, self.checkout, looks) for call in calls]
        said = "\n".join(filter(None, [completion.text.strip(), *map(written, calls)]))[:left]
        seen = "\n\n".join(result.text for result in results)[: left - len(said)]
        return Message("assistant", said), Message("user", seen or "There is no room left to look. Call revise_notes.")

    def _read(
        self,
        context: Context,
        plan: Plan,
        draft: Draft,
        changes: Changes | None,
        completion: Completion,
        *,
        is_last: bool,
    ) -> tuple[Draft, bool]:
        """Fold a reply in; say whether it could be read.

        A model that calls no tool is asked in plain text from then on.
        """
        strategy, tools = _STRATEGIES[plan.strategy], self.tools(plan, draft)
        try:
            if tools:
                names = {tool.name for tool in strategy.looks}
                calls = tuple(call for call in completion.tool_calls if call.name not in names)
                revision = strategy.read(replace(completion, tool_calls=calls), draft)
            else:
                revision = strategy.read_plain(completion, context, draft, self.prompt(plan, draft))
        except UnreadableReplyError as error:
            if tools and not completion.tool_calls:
                draft = replace(draft, is_plain=True)
            draft = replace(draft, remarks=(f"The last reply could not be read: {error}.",))
            return (draft.failed() if is_last else draft), False
        news, known = self._news(revision)
        kept = changes.kept if changes else ()
        return draft.revised(news, context, max_characters=plan.max_characters, kept=kept).told(known), True

    def _news(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        """Leave out notes that are evident anyway; say which these were."""
        evident = [
            each
            for each in revision.operations
            if each.verb != "retire" and covered(each.plain, self.documented) >= COVERED
        ]
        if not evident:
            return revision, ()
        left = tuple(each for each in revision.operations if each not in evident)
        remarks = tuple(f"Not kept, for the documentation says so already: {cut(each.plain, 80)}" for each in evident)
        return replace(revision, operations=left), remarks

    async def _allowed(
        self,
        context: Context,
        plan: Plan,
        budget: Budget,
        draft: Draft,
        changes: Changes | None,
        looked: tuple[Message, ...] = (),
    ) -> int:
        room = await self.room(context, plan, draft, changes, looked)
        input_tokens = 0
        if budget.max_cost_usd is not None:
            messages = (*self.messages(context, plan, draft, changes), *looked)
            tools = (*self._looks(plan, draft), *self.tools(plan, draft))
            input_tokens = (await self.model.count_tokens(messages, tools=tools)).tokens
        return policy.call_output_tokens(
            budget, draft.usage, draft.cost_usd, input_tokens=input_tokens, price=self.price, default=room
        )


def begin(changes: Changes | None, sample: int, context: Context, newest: LearnedContext | None) -> Draft:
    """What a sample begins with: the notes that an edit left standing, else those of the newest that a user holds."""
    return changes.draft(sample) if changes else held_draft(newest, context, sample)


def _state(plan: Plan, draft: Draft) -> str:
    where = f"This is round {draft.rounds + 1} of at most {plan.budget.max_rounds}."
    room = f"What is written may have {plan.max_characters} characters in all; it has {draft.characters} now."
    return "\n".join([f"{where} {room}", *draft.remarks])


def _first(errors: BaseExceptionGroup[SleeptimeError]) -> SleeptimeError:
    """The first error of a group, however deep it lies."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group has at least one error")
