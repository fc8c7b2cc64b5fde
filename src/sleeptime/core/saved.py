"""What notes have saved so far, as measured, with a 95 % interval.

    saved = Σ over contexts  n · (B − b)    what its n answers with notes would have taken without, less what they took
    net   = saved − S                       S: what sleeping took, where it is counted in the same unit

B is the mean of a context's own answers without notes; where it has none, the mean of all contexts'. The interval is
that of a difference of means: answers of one context scatter as they do within contexts on average, and the two kinds
of B are taken to err the same way, so that it is rather too wide than too narrow.

What it does not know: whether answers with and without notes were asked alike. Where queries get notes by lot
(a holdout), they were; elsewhere it compares what was asked, at whatever level.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

FEWEST = 2
"""Degrees of freedom below which an interval would say nothing."""
_Z = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Sums over all contexts of one amount: tokens, dollars or seconds of an answer.

    notes, plain       answers with notes, and without, each with the sum and its scatter about the means of contexts
    *_contexts         how many contexts they are on
    plain_squares      Σ x² of those without
    own                answers with notes on contexts that have answers without; own_baseline is Σ n · B over these,
    own_weight         Σ n² / m, m being a context's answers without
    """

    notes: int = 0
    notes_total: float = 0.0
    notes_scatter: float = 0.0
    notes_contexts: int = 0
    plain: int = 0
    plain_total: float = 0.0
    plain_squares: float = 0.0
    plain_scatter: float = 0.0
    plain_contexts: int = 0
    own: int = 0
    own_baseline: float = 0.0
    own_weight: float = 0.0

    @property
    def mean_plain(self) -> float | None:
        """What an answer without notes takes, over all contexts."""
        return self.plain_total / self.plain if self.plain else None

    @property
    def mean_notes(self) -> float | None:
        """What an answer with notes takes."""
        return self.notes_total / self.notes if self.notes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What was saved: None where it was not measured. `half` is half of the 95 % interval, None where there is none.

    `baseline` is what one of these answers would have taken without notes, `taken` what it took with them.
    """

    value: float | None
    half: float | None
    answers: int
    baseline: float | None
    taken: float | None

    @property
    def low(self) -> float | None:
        return None if self.value is None or self.half is None else self.value - self.half

    @property
    def high(self) -> float | None:
        return None if self.value is None or self.half is None else self.value + self.half

    def less(self, spent: float) -> Saved:
        """The same after what sleeping took, which is known exactly."""
        value = None if self.value is None else self.value - spent
        return Saved(value=value, half=self.half, answers=self.answers, baseline=self.baseline, taken=self.taken)


def saved(compared: Compared) -> Saved:
    """Say what the answers with notes saved."""
    n, m = compared.notes, compared.plain
    others = n - compared.own
    mean = compared.mean_plain
    if not n or (others and mean is None):
        return Saved(value=None, half=None, answers=n, baseline=None, taken=compared.mean_notes)
    without = compared.own_baseline + others * (mean or 0.0)
    return Saved(
        value=without - compared.notes_total,
        half=_half(compared, n, m, others),
        answers=n,
        baseline=without / n,
        taken=compared.notes_total / n,
    )


def _half(compared: Compared, n: int, m: int, others: int) -> float | None:
    """Half of the interval; None where too few answers say how they scatter."""
    free_notes = n - compared.notes_contexts
    free_plain = m - compared.plain_contexts if compared.own else m - 1
    if free_notes < FEWEST or free_plain < FEWEST:
        return None
    of_notes = max(0.0, compared.notes_scatter) / free_notes * n
    error = 0.0
    if compared.own:
        error += sqrt(max(0.0, compared.plain_scatter) / free_plain * compared.own_weight)
    if others:
        scatter = max(0.0, compared.plain_squares - compared.plain_total**2 / m) / (m - 1)
        error += others * sqrt(scatter / m)
    return student(min(free_notes, free_plain)) * sqrt(of_notes + error**2)


def student(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t, by the expansion of Cornish and Fisher."""
    z, v = _Z, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (power + 1) for power, term in enumerate(terms))
