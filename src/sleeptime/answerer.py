"""Answer a query about a context, with or without what was learned about it.

    T_b(q, c′) → a      Answerer.answer(query, context, learned) → Answer

The prompt is laid out [instructions][context][learned context][query and level], so
that everything before the query is the same bytes for every query and level, and
providers' prompt caches hold. Recorded is what the model spent, not what it was asked to.

This file knows nothing about sleeping, jobs, HTTP or SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sleeptime import prompts
from sleeptime.core import policy, staleness
from sleeptime.core.budget import Budget
from sleeptime.core.context import Context
from sleeptime.core.errors import BudgetError, InputError, NotSupportedError
from sleeptime.core.messages import Completion, LogProb, Message
from sleeptime.core.notes import LearnedContext
from sleeptime.core.prompt import Prompt
from sleeptime.core.query import Answer, Query
from sleeptime.core.usage import PriceCard, Usage, sum_costs
from sleeptime.models.protocol import Model, Options
from sleeptime.models.window import room_for_reply

DEFAULT_ANSWER_TOKENS = 8192
FORCED_ANSWER_TOKENS = 256
MOST_EXTENSIONS = 8


@dataclass(frozen=True, slots=True)
class Answerer:
    """T: answers queries with one model. `price` turns usage into money and lets money caps hold."""

    model: Model
    price: PriceCard | None
    clock_s: Callable[[], float]

    async def answer(
        self,
        query: Query,
        context: Context,
        learned: LearnedContext | None,
        *,
        budget: Budget = Budget(),
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer *query*, thinking as hard as its level says, within *budget*'s tokens and money.

        *on_text* is given the answer's text piece by piece as it arrives.
        Raises InputError where `query.sees` needs a learned context and there is none,
        ContextTooLongError and BudgetError before any token is spent, and ModelError.
        """
        prompt = self.prompt(query)
        messages = self.messages(query, context, learned)
        started_s = self.clock_s()
        if query.level.kind in ("force", "extend"):
            completion, cost_usd = await self._forced(prompt, query, messages, budget, on_text)
        else:
            thinking = query.level.amount if query.level.kind == "thinking" else 0
            options = Options(
                max_output_tokens=await self._allowed(messages, budget, Usage(), DEFAULT_ANSWER_TOKENS + thinking),
                temperature=0.0 if query.level.kind == "verbosity" and self.model.abilities.sampling else None,
                effort=query.level.effort,
                thinking_tokens=thinking or None,
                on_text=on_text,
            )
            completion = await self.model.generate(messages, options)
            cost_usd = self._cost_usd(completion)
        return Answer(
            text=completion.text.strip(),
            query=query,
            model=self.model.name,
            usage=completion.usage,
            cost_usd=cost_usd,
            latency_s=self.clock_s() - started_s,
            finish_reason=completion.finish_reason,
            version=learned.version if learned and query.sees != "context" else None,
            thinking=completion.thinking,
        )

    def prompt(self, query: Query) -> Prompt:
        """The prompt file for what the query sees."""
        return prompts.load(f"answer-{query.sees}", self.model.abilities.prompt_set)

    def messages(self, query: Query, context: Context, learned: LearnedContext | None) -> tuple[Message, ...]:
        """What the model is shown: of what was learned, only notes that are neither quarantined nor stale."""
        if query.sees != "context" and learned is None:
            raise InputError(f"An answer that sees {query.sees} needs a learned context.")
        prompt = self.prompt(query)
        return prompt.render(
            {
                "context": context.shown,
                "learned": prompt.notes(staleness.shown(learned, context)) if learned else "",
                "question": query.question,
                "level": prompt.level(query.level),
            }
        )

    async def log_prob(self, query: Query, context: Context, learned: LearnedContext | None) -> LogProb:
        """Log P(question | what stands before it in the prompt): how predictable the query was.

        Raises NotSupportedError where the model gives no log-probabilities.
        """
        *before, last = self.messages(query, context, learned)
        at = last.content.rindex(query.question)
        given = last.content[:at]
        stripped = given.rstrip()
        question = given[len(stripped) :] + query.question
        return await self.model.log_prob(question, given=[*before, Message(last.role, stripped)])

    async def _forced(
        self,
        prompt: Prompt,
        query: Query,
        messages: tuple[Message, ...],
        budget: Budget,
        on_text: Callable[[str], None] | None,
    ) -> tuple[Completion, float | None]:
        """Budget forcing (s1, arXiv 2501.19393): cut thinking off at the level's tokens, or make it go on to them."""
        if not self.model.abilities.completes:
            raise NotSupportedError(
                self.model.name, "raw completions, which budget forcing needs", "Use a budget of 0 to 4, or an effort."
            )
        if prompt.think is None:
            raise BudgetError(f"The prompts of {self.model.name} know no forced thinking. Use a budget of 0 to 4.")
        opening, closing, first_words = prompt.think
        whole = await self._allowed(messages, budget, Usage(), query.level.amount + FORCED_ANSWER_TOKENS, calls=2)
        most = min(query.level.amount, whole - min(FORCED_ANSWER_TOKENS, whole // 2))
        spent, costs = Usage(), list[float | None]()
        thinking = ""
        extensions = 0
        while most > spent.output_tokens:
            options = Options(max_output_tokens=most - spent.output_tokens, temperature=0.0, stop=(closing.strip(),))
            part = await self.model.complete(messages, options, prefix=opening + thinking)
            spent += part.usage
            costs.append(self._cost_usd(part))
            thinking += part.text
            if query.level.kind == "force" or part.finish_reason == "length" or extensions == MOST_EXTENSIONS:
                break
            thinking = thinking.rstrip() + prompt.wait
            extensions += 1
        prefix = opening + thinking.rstrip() + closing + first_words
        shown = (*messages, Message("assistant", prefix))
        allowed = await self._allowed(shown, budget, spent, FORCED_ANSWER_TOKENS, spent_usd=sum_costs(costs))
        options = Options(max_output_tokens=allowed, temperature=0.0, on_text=on_text)
        last = await self.model.complete(messages, options, prefix=prefix)
        costs.append(self._cost_usd(last))
        usage = _as_thinking(spent) + last.usage
        return replace(last, text=first_words + last.text, thinking=thinking, usage=usage), sum_costs(costs)

    def _cost_usd(self, completion: Completion) -> float | None:
        return self.price.served(completion.tier).cost_usd(completion.usage) if self.price else None

    async def _allowed(
        self,
        messages: tuple[Message, ...],
        budget: Budget,
        spent: Usage,
        wanted: int,
        *,
        calls: int = 1,
        spent_usd: float | None = 0.0,
    ) -> int:
        """How many of the *wanted* tokens the window and the caps leave, if the prompt is paid for *calls* times."""
        room = await room_for_reply(self.model, messages, wanted=wanted)
        input_tokens = 0
        if budget.max_cost_usd is not None:
            input_tokens = calls * (await self.model.count_tokens(messages)).tokens
        allowed = policy.call_output_tokens(
            budget, spent, spent_usd, input_tokens=input_tokens, price=self.price, default=room
        )
        if allowed < calls:
            raise BudgetError(
                f"The budget leaves no token for an answer by {self.model.name}. Raise --max-tokens or --max-cost."
            )
        return allowed


def _as_thinking(usage: Usage) -> Usage:
    return replace(usage, reasoning_tokens=usage.output_tokens)
