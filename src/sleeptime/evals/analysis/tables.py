"""Findings as tables of plain values: the one source of CSV and Markdown.

    tables(findings) → name of a table → its rows, all with the same columns

A measure takes three columns, its value and the ends of its interval; the first one of a row that was
taken also says what it was measured on. What was not measured is None, and `note` says why.
"""

from __future__ import annotations

from collections.abc import Mapping

from sleeptime.evals.analysis.findings import Comparison, Control, Findings, Measure, Predictability

Value = str | int | float | bool | None
Row = dict[str, Value]


def tables(findings: Findings) -> dict[str, list[Row]]:
    """Lay out everything that was found. A table without rows is left out."""
    compared = (*findings.comparisons, *findings.strata)
    spread = findings.amortisation
    made: dict[str, list[Row]] = {
        "claims": [
            {"experiment": each.experiment, "claim": each.words, "verdict": each.verdict, "because": each.because}
            for each in findings.claims
        ],
        "points": [
            _row(
                {
                    "cell": each.cell,
                    "arm": each.arm,
                    "level": each.level,
                    "samples": each.samples,
                    "effort": each.effort,
                    "input_tokens": each.input_tokens,
                    "cached_input_tokens": each.cached_input_tokens,
                    "reasoning_tokens": each.reasoning_tokens,
                    "cost_usd": each.cost_usd,
                },
                accuracy=each.accuracy,
                tokens=each.tokens,
                sleep_tokens=each.sleep_tokens,
            )
            for each in findings.points
        ],
        "equal_accuracy": [_equal_accuracy(each) for each in compared],
        "by_level": [row for each in compared for row in _by_level(each)],
        "draws": [
            _row(
                {"level": each.level, "k": each.k},
                tokens=each.tokens,
                pass_at_k=each.pass_at_k,
                majority_at_k=each.majority_at_k,
                sleep=each.sleep,
                over_pass=each.over_pass,
                over_majority=each.over_majority,
            )
            for each in findings.draws
        ],
        "scaling": [
            _row(
                {"kind": each.kind, "level": each.level, "samples": each.samples, "effort": each.effort},
                accuracy=each.accuracy,
                gain=each.gain,
                over_first=each.over_first,
                over_previous=each.over_previous,
                over_joined=each.over_joined,
                tokens=each.tokens,
                sleep_tokens=each.sleep_tokens,
            )
            for each in findings.scaling
        ],
        "costs": [
            _row(
                _priced(each.price, is_cached=each.is_cached) | {"queries_per_context": each.queries},
                ratio=each.ratio,
                without=each.without,
                with_sleep=each.with_sleep,
            )
            for each in (spread.points if spread else ())
        ],
        "break_even": [
            _row(_priced(each.price, is_cached=each.is_cached), queries_per_context=each.queries)
            for each in (spread.break_evens if spread else ())
        ],
        "predictability": [
            _row(
                {"cell": each.cell, "by": each.by}, rho=each.rho, slope=each.slope, slope_within_depth=each.within_depth
            )
            for each in findings.predictability
        ],
        "predictability_bins": [row for each in findings.predictability for row in _bins(each)],
        "guesses": [_control(each) for each in findings.guesses],
        "controls": [_control(each) for each in findings.controls],
        "equal_totals": [
            _row(
                {"level": each.level, "k": each.k, "fits": each.fits},
                over=each.over,
                majority=each.majority,
                sleep=each.sleep,
                total_tokens=each.total_tokens,
            )
            for each in findings.equal_totals
        ],
        "not_measured": [{"what": what, "why": why} for what, why in findings.not_measured.items()],
    }
    return {name: rows for name, rows in made.items() if rows}


def _row(facts: Mapping[str, Value], **measures: Measure | None) -> Row:
    row: Row = dict(facts)
    for name, measure in measures.items():
        row[name] = None if measure is None else measure.value
        row[f"{name}_low"] = None if measure is None else measure.low
        row[f"{name}_high"] = None if measure is None else measure.high
    taken = [measure for measure in measures.values() if measure is not None]
    first = next((measure for measure in taken if measure.value is not None), taken[0])
    notes = (f"{name}: {measure.note}" for name, measure in measures.items() if measure is not None and measure.note)
    return row | {
        "contexts": first.contexts,
        "clusters": first.clusters,
        "queries": first.queries,
        "missing": first.missing,
        "note": "; ".join(notes),
    }


def _equal_accuracy(each: Comparison) -> Row:
    match = each.match
    row = _row(
        {
            "stratum": each.stratum,
            "without": each.without,
            "with_sleep": each.with_sleep,
            "margin": each.margin,
            "best_level": match.best,
            "without_level": match.without,
            "with_level": match.with_sleep,
            "nearest_level": match.nearest,
        },
        token_ratio=each.token_ratio,
        as_measured=each.as_measured,
        interpolated=each.interpolated,
    )
    return row | {"reason": match.reason}


def _by_level(each: Comparison) -> list[Row]:
    shifts, savings = dict(each.shifts), dict(each.savings)
    return [
        _row(
            {"stratum": each.stratum, "without": each.without, "with_sleep": each.with_sleep, "level": level},
            gain=gain,
            shift=shifts.get(level),
            saving=savings.get(level),
        )
        for level, gain in each.gains
    ]


def _priced(price: float | None, *, is_cached: bool) -> Row:
    if price is None:
        return {"unit": "USD", "t": None, "input_cached": "as measured" if is_cached else "none"}
    return {"unit": "sleep tokens", "t": price, "input_cached": None}


def _bins(each: Predictability) -> list[Row]:
    return [
        _row(
            {"cell": each.cell, "by": each.by, "bin": number, "log_prob": part.log_prob},
            gain=part.gain,
            without=part.without,
            with_sleep=part.with_sleep,
        )
        for number, part in enumerate(each.bins, 1)
    ]


def _control(each: Control) -> Row:
    return _row(
        {"arm": each.arm, "level": each.level},
        accuracy=each.accuracy,
        gain=each.gain,
        below_sleep=each.below_sleep,
        sleep=each.sleep,
        tokens=each.tokens,
    )
