"""What the first page says: what sleeping saved, what it cost, and what goes on.

    overview(…) → Overview          values of the engine in, words and series out

The net line of the chart ends at the headline's figure: its points are answers with notes so far times what each saved
on average, less what sleep had cost by then. Pure; knows no store and no HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sleeptime.core.caps import NANO, Caps, Spending
from sleeptime.core.ledger import Phase
from sleeptime.core.saved import Compared, Saved, saved
from sleeptime.core.shown import Counts, Spent
from sleeptime.server.dashboard import words

Unit = Literal["usd", "tokens"]
Tone = Literal["good", "bad", "open"]
Write = Callable[[float | None], str]
SLEEP_PHASES = (Phase.SLEEP, Phase.VERIFY)
SPANS: Mapping[str, timedelta | None] = {"day": timedelta(days=1), "month": timedelta(days=30), "all": None}
_PERIODS = {"day": "Today", "month": "This month"}

COMMANDS_TO_BEGIN = (
    "sleeptime add report.txt",
    "sleeptime sleep report --model openai:gpt-5-mini",
    'sleeptime ask report "Which region grew most?" --model openai:gpt-5-mini',
)
COMMAND_TO_COMPARE = 'sleeptime ask NAME "…" --sees context'


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One of the three figures: what was saved, in words, with what it rests on.

    `without` and `with_notes` are of one answer, as shares of the larger for the two bars.
    """

    name: str
    value: str
    interval: str
    tone: Tone
    without: str
    with_notes: str
    without_share: float
    with_share: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of a chart. `colour` names a colour of the style sheet."""

    label: str
    colour: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Series over time, in seconds from 1970. `low` and `high` are the ends of the interval."""

    kind: Literal["bars", "net"]
    unit: Unit
    at: tuple[float, ...]
    step_s: float
    series: tuple[Series, ...]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapLine:
    """One cap: what is spent, set aside and left, as shares of it."""

    name: str
    spent: str
    cap: str
    left: str
    share: float
    open_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The first page."""

    headline: str
    tone: Tone
    below: str
    commands: tuple[str, ...]
    figures: tuple[Figure, ...]
    net: Chart | None
    spent: Chart | None
    unit: Unit
    can_show_money: bool
    span: str
    totals: tuple[tuple[str, str], ...]


def overview(
    compared: Mapping[str, Compared],
    everything: Sequence[Spent],
    spans: Sequence[Spent],
    counts: Counts,
    *,
    unit: Unit | None,
    span: str,
    step: timedelta,
) -> Overview:
    """Put the page together: *everything* is the ledger by day, *spans* what the charts show, in spans of *step*."""
    slept = [each for each in everything if each.phase in SLEEP_PHASES]
    sleep_tokens = float(sum(each.usage.output_tokens for each in slept))
    sleep_usd = sum(each.cost_usd for each in slept)
    can_show_money = any(each.cost_usd > 0 for each in everything)
    shown: Unit = unit or ("usd" if can_show_money else "tokens")
    all_saved = {name: saved(each) for name, each in compared.items()}
    net_tokens = all_saved["tokens"].less(sleep_tokens)
    net_usd = all_saved["usd"].less(sleep_usd)
    told = net_usd if can_show_money and net_usd.value is not None else net_tokens
    told_unit: Unit = "usd" if told is net_usd else "tokens"
    sleep = sleep_usd if told_unit == "usd" else sleep_tokens
    headline, tone, below, commands = _headline(told, told_unit, sleep, counts, bool(slept))
    unpriced = sum(each.unpriced for each in everything)
    net = net_usd if shown == "usd" else net_tokens
    return Overview(
        headline=headline,
        tone=tone,
        below=below,
        commands=commands,
        figures=(
            _figure("Money", net_usd if can_show_money else _unknown(net_usd), words.money, unpriced=unpriced),
            _figure("Tokens", net_tokens, words.tokens),
            _figure("Waiting", all_saved["seconds"], words.seconds),
        ),
        net=_net(everything, spans, net, shown, step) if net.value is not None else None,
        spent=_spent(spans, shown, step) if spans else None,
        unit=shown,
        can_show_money=can_show_money,
        span=span,
        totals=_totals(everything, counts),
    )


def _unknown(figure: Saved) -> Saved:
    return Saved(value=None, half=None, answers=figure.answers, baseline=None, taken=None)


def amount(value: float | None, unit: Unit) -> str:
    """An amount in a chart's unit."""
    return words.money(value) if unit == "usd" else words.tokens(value)


def _headline(
    net: Saved, unit: Unit, sleep: float, counts: Counts, has_slept: bool
) -> tuple[str, Tone, str, tuple[str, ...]]:
    """The sentence a person takes away, how it sounds, what stands below it, and what to type next."""
    if not counts.contexts and not net.answers:
        return (
            "Nothing to sleep on yet.",
            "open",
            "Add a text, let a model think about it before anyone asks, and this page shows what that saved.",
            COMMANDS_TO_BEGIN,
        )
    if not has_slept and not net.answers:
        return (
            f"{words.count(counts.contexts, 'context')}, and nothing slept on yet.",
            "open",
            "Sleep on one now, or let sleeptime decide where it pays.",
            ("sleeptime sleep NAME --max-cost 0.05", "sleeptime sleep --all --if-it-pays"),
        )
    if net.value is None and not net.answers:
        return (
            f"Sleeping has cost {amount(sleep, unit)}; no question has met its notes yet.",
            "open",
            "What it saves is measured with the first answers.",
            ('sleeptime ask NAME "…"',),
        )
    if net.value is None:
        return (
            f"{words.count(net.answers, 'answer')} with notes; what they saved is not measured yet.",
            "open",
            f"Sleeping has cost {amount(sleep, unit)}. Ask once without notes, to have something to compare with.",
            (COMMAND_TO_COMPARE,),
        )
    behind = f"{words.count(net.answers, 'answer')} with notes, {amount(sleep, unit)} of sleep included."
    interval = _interval(net, lambda value: amount(value, unit))
    if net.low is not None and net.low > 0:
        return f"Sleeping has saved {amount(net.value, unit)}.", "good", f"{interval}; {behind}", ()
    if net.value > 0:
        why = "it may be chance" if net.low is not None else "there are too few answers for an interval"
        return (
            f"Sleeping has saved {amount(net.value, unit)} so far; {why}.",
            "open",
            f"{interval + '; ' if interval else ''}{behind}",
            (),
        )
    to_come = _queries_to_come(net)
    return (
        f"Sleeping has cost {amount(-net.value, unit)} more than it has saved so far.",
        "bad" if to_come is None else "open",
        f"{interval + '; ' if interval else ''}{behind} "
        + ("Answers with notes cost no less than those without." if to_come is None else f"{to_come}"),
        (),
    )


def _queries_to_come(net: Saved) -> str | None:
    if net.value is None or net.baseline is None or net.taken is None or net.baseline <= net.taken:
        return None
    more = -net.value / (net.baseline - net.taken)
    return f"At this rate it is paid for after about {words.number(float(int(more) + 1))} more."


def _interval(figure: Saved, write: Write) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"95 % interval {write(figure.low)} to {write(figure.high)}"


def _figure(name: str, figure: Saved, write: Write, *, unpriced: int = 0) -> Figure:
    top = max(figure.baseline or 0.0, figure.taken or 0.0)
    tone: Tone = "open"
    if figure.low is not None and figure.low > 0:
        tone = "good"
    elif figure.high is not None and figure.high < 0:
        tone = "bad"
    notes: list[str] = []
    if figure.value is not None and figure.low is None:
        notes.append("too few answers for an interval")
    if unpriced:
        notes.append(f"{words.count(unpriced, 'call')} of unknown price left out")
    return Figure(
        name=name,
        value=write(figure.value),
        interval="" if figure.low is None else f"{write(figure.low)} to {write(figure.high)}",
        tone=tone,
        without="" if figure.baseline is None else write(figure.baseline),
        with_notes="" if figure.taken is None or figure.baseline is None else write(figure.taken),
        without_share=(figure.baseline or 0.0) / top if top else 0.0,
        with_share=(figure.taken or 0.0) / top if top else 0.0,
        note="; ".join(notes),
    )


def _at(each: Spent, unit: Unit) -> float:
    return each.cost_usd if unit == "usd" else float(each.usage.output_tokens)


def _spans(spans: Sequence[Spent], step: timedelta) -> list[datetime]:
    """Every span from the first to the last, those in which nothing was spent too."""
    if not spans:
        return []
    at, last = spans[0].since, spans[-1].since
    found = [at]
    while at < last:
        at += step
        found.append(at)
    return found


_LAYERS: tuple[tuple[str, str, frozenset[tuple[Phase, bool]]], ...] = (
    ("sleep", "sleep", frozenset({(Phase.SLEEP, False), (Phase.SLEEP, True)})),
    ("answers with notes", "learned", frozenset({(Phase.TEST, True)})),
    ("answers without notes", "no-sleep", frozenset({(Phase.TEST, False)})),
    (
        "checking and scoring",
        "merged",
        frozenset((phase, has) for phase in (Phase.VERIFY, Phase.SCORE) for has in (False, True)),
    ),
)


def _spent(spans: Sequence[Spent], unit: Unit, step: timedelta) -> Chart:
    """What was spent in each span, by what it was for."""
    every = _spans(spans, step)
    place = {at: index for index, at in enumerate(every)}
    series: list[Series] = []
    told: list[str] = []
    for label, colour, which in _LAYERS:
        values = [0.0] * len(every)
        for each in spans:
            if (each.phase, each.has_notes) in which:
                values[place[each.since]] += _at(each, unit)
        if any(values):
            series.append(Series(label=label, colour=colour, values=tuple(values)))
            told.append(f"{amount(sum(values), unit)} for {label}")
    return Chart(
        kind="bars",
        unit=unit,
        at=tuple(at.timestamp() for at in every),
        step_s=step.total_seconds(),
        series=tuple(series),
        says=f"Spent in the time shown: {', '.join(told) or 'nothing'}.",
    )


def _net(everything: Sequence[Spent], spans: Sequence[Spent], net: Saved, unit: Unit, step: timedelta) -> Chart | None:
    """What was saved, net of sleep, up to each span; before the first span stands what came earlier."""
    if not spans or net.baseline is None or net.taken is None or not net.answers:
        return None
    each_saved = net.baseline - net.taken
    half = (net.half or 0.0) / net.answers
    shown_answers = sum(each.answers for each in spans if each.phase is Phase.TEST and each.has_notes)
    shown_sleep = sum(_at(each, unit) for each in spans if each.phase in SLEEP_PHASES)
    # What came before the first span is what the spans shown lack, so that the line ends at the figure told.
    answers = float(net.answers - shown_answers)
    sleep = sum(_at(each, unit) for each in everything if each.phase in SLEEP_PHASES) - shown_sleep
    every = _spans(spans, step)
    place = {at: index for index, at in enumerate(every)}
    more_answers, more_sleep = [0.0] * len(every), [0.0] * len(every)
    for each in spans:
        if each.phase is Phase.TEST and each.has_notes:
            more_answers[place[each.since]] += each.answers
        if each.phase in SLEEP_PHASES:
            more_sleep[place[each.since]] += _at(each, unit)
    values, low, high = (
        [answers * each_saved - sleep],
        [answers * (each_saved - half) - sleep],
        [answers * (each_saved + half) - sleep],
    )
    for came, slept in zip(more_answers, more_sleep, strict=True):
        answers, sleep = answers + came, sleep + slept
        values.append(answers * each_saved - sleep)
        low.append(answers * (each_saved - half) - sleep)
        high.append(answers * (each_saved + half) - sleep)
    at = [every[0].timestamp(), *((each + step).timestamp() for each in every)]
    paid = _paid(values)
    return Chart(
        kind="net",
        unit=unit,
        at=tuple(at),
        step_s=step.total_seconds(),
        series=(
            Series(label="saved, net of sleep", colour="sleep", values=tuple(values)),
            Series(label="low", colour="sleep", values=tuple(low)),
            Series(label="high", colour="sleep", values=tuple(high)),
        ),
        says=f"Saved, net of sleep: {amount(values[-1], unit)} at the end. {paid}",
    )


def _paid(values: Sequence[float]) -> str:
    if values[-1] <= 0:
        return "It has not reached break-even."
    below = max((index for index, value in enumerate(values) if value < 0), default=-1)
    return "It was never below break-even." if below < 0 else "It has passed break-even."


def caps_left(caps: Caps, spent: Mapping[str, Spending]) -> tuple[CapLine, ...]:
    """What is left of the caps of the day and of the month, by what each has spent."""
    found: list[CapLine] = []
    for period, most_tokens, most_usd in caps.periods:
        name, kept = _PERIODS[period], spent[period]
        if most_tokens is not None:
            found.append(_cap(f"{name}, tokens", kept.tokens, kept.open_tokens, most_tokens, "tokens"))
        if most_usd is not None:
            found.append(_cap(f"{name}, money", kept.nano_usd / NANO, kept.open_nano_usd / NANO, most_usd, "usd"))
    return tuple(found)


def _cap(name: str, spent: float, held: float, most: float, unit: Unit) -> CapLine:
    def share(part: float) -> float:
        return min(1.0, part / most) if most else 1.0

    return CapLine(
        name=name,
        spent=amount(spent, unit),
        cap=amount(most, unit),
        left=amount(max(0.0, most - spent - held), unit),
        share=share(spent),
        open_share=share(held),
    )


def _totals(everything: Sequence[Spent], counts: Counts) -> tuple[tuple[str, str], ...]:
    """A line of small figures: what there is, and what was spent in all."""
    answers = sum(each.answers for each in everything)
    assisted = sum(each.answers for each in everything if each.has_notes)
    total = sum(each.usage.total_tokens for each in everything)
    cached = sum(each.usage.cached_input_tokens for each in everything)
    cost = sum(each.cost_usd for each in everything)
    found = [
        ("contexts", words.number(counts.contexts)),
        ("slept on", words.number(counts.slept_on)),
        ("answers", words.number(answers)),
        ("with notes", words.number(assisted)),
        ("tokens in all", words.number(total)),
        ("of them cached", words.number(cached)),
    ]
    return (*found, *([("spent in all", words.money(cost))] if cost else []))
