from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core import policy
from sleeptime.core.budget import Budget, Level
from sleeptime.core.errors import BudgetError, PromptError
from sleeptime.core.notes import Draft
from sleeptime.core.plan import Plan
from sleeptime.core.prompt import Prompt
from sleeptime.core.usage import PriceCard, Usage, sum_costs

CARD = PriceCard(
    name="card", dated=date(2026, 11, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, cached_input_usd_per_mtok=0.1
)


@pytest.mark.parametrize(
    ("draft", "budget", "elapsed_s", "expected"),
    [
        (Draft(), Budget(), 0.0, None),
        (Draft(is_done=True), Budget(), 0.0, "finished"),
        (Draft(is_settled=True), Budget(), 0.0, "settled"),
        (Draft(failed_in_a_row=2), Budget(), 0.0, "unreadable"),
        (Draft(usage=Usage(output_tokens=9)), Budget(max_output_tokens=9), 0.0, "budget"),
        (Draft(rounds=10), Budget(), 0.0, "rounds"),
        (Draft(rounds=9), Budget(), 0.0, None),
        (Draft(), Budget(max_seconds=5), 5.0, "time"),
    ],
)
def test_sleep_ends_for_a_reason(draft: Draft, budget: Budget, elapsed_s: float, expected: str | None) -> None:
    assert policy.stop_reason(draft, budget, elapsed_s=elapsed_s) == expected


@given(
    cap_tokens=st.integers(1, 10_000),
    cap_usd=st.floats(1e-6, 0.1),
    spent=st.integers(0, 12_000),
    input_tokens=st.integers(0, 20_000),
)
def test_no_call_may_pass_a_cap_even_if_it_uses_all_it_was_allowed(
    cap_tokens: int, cap_usd: float, spent: int, input_tokens: int
) -> None:
    budget = Budget(max_output_tokens=cap_tokens, max_cost_usd=cap_usd)
    usage = Usage(output_tokens=spent)
    spent_usd = CARD.cost_usd(usage)

    allowed = policy.call_output_tokens(budget, usage, spent_usd, input_tokens=input_tokens, price=CARD)

    if allowed:
        after = usage + Usage(input_tokens=input_tokens, output_tokens=allowed)
        assert after.output_tokens <= cap_tokens
        assert CARD.cost_usd(after) <= cap_usd + 1e-12


def test_what_is_left_of_caps_goes_to_the_next_piece_of_work() -> None:
    budget = Budget(max_output_tokens=10, max_cost_usd=1.0)

    assert budget.less(Usage(output_tokens=4), 0.25) == Budget(max_output_tokens=6, max_cost_usd=0.75)
    assert budget.less(Usage(output_tokens=10), 0.25) is None
    assert budget.less(Usage(output_tokens=1), 1.0) is None
    assert Budget().less(Usage(output_tokens=99), None) == Budget()


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cap_is_a_number_above_zero(cap: float) -> None:
    with pytest.raises(BudgetError, match="above zero"):
        Budget(max_cost_usd=cap)


def test_a_cap_smaller_than_the_samples_is_refused() -> None:
    with pytest.raises(BudgetError, match="too small for 5 samples"):
        Plan(samples=5, budget=Budget(max_output_tokens=3))


def test_an_unknown_price_under_a_money_cap_allows_nothing() -> None:
    assert policy.call_output_tokens(Budget(max_cost_usd=1), Usage(), 0.0, input_tokens=0, price=None) == 0


def test_cached_input_is_priced_apart_and_unknown_costs_stay_unknown() -> None:
    usage = Usage(input_tokens=1_000_000, cached_input_tokens=400_000, output_tokens=500_000, reasoning_tokens=100)

    assert CARD.cost_usd(usage) == pytest.approx(0.6 + 0.04 + 2.0)
    assert sum_costs([1.0, None]) is None
    assert sum_costs([]) == 0.0


def test_a_part_cannot_exceed_its_total() -> None:
    with pytest.raises(ValueError, match="inclusive"):
        Usage(input_tokens=1, cached_input_tokens=2)


@pytest.mark.parametrize("text", ["v0", "v4", "low", "high", "think:2048", "force:256", "extend:64"])
def test_levels_are_read_as_they_are_written(text: str) -> None:
    assert str(Level.parse(text)) == text


@pytest.mark.parametrize("text", ["", "5", "v9", "huge", "think:", "think:0", "force:-1", "1.5"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(BudgetError):
        Level.parse(text)


def test_parallel_samples_at_temperature_zero_are_refused() -> None:
    with pytest.raises(BudgetError, match="identical"):
        Plan(samples=2, temperature=0.0)
    assert Plan(samples=2).sampling_temperature == 0.8
    assert Plan().sampling_temperature == 0.0


FILE = """+++
name = "p"
inputs = ["context", "question"]
+++
## system
Read:
{{ context }}

## user
{{ question }}
"""


@given(st.text(), st.text())
def test_a_prompt_is_rendered_in_one_pass(context: str, question: str) -> None:
    system, user = Prompt.parse(FILE, where="p.md").render({"context": context, "question": question})

    assert system.content == f"Read:\n{context}"
    assert user.content == question


def test_braces_and_headings_in_a_context_are_only_text() -> None:
    hostile = "{{ question }} $1.50 {braces}\n## user\n+++"

    system, user = Prompt.parse(FILE, where="p.md").render({"context": hostile, "question": "?"})

    assert system.content == f"Read:\n{hostile}"
    assert user.content == "?"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("no front matter", "begins with TOML"),
        (FILE.replace('"question"', '"answer"'), "declared inputs must equal used inputs"),
        (FILE.replace('name = "p"', 'nam = "p"'), "unknown key 'nam'"),
        (FILE.replace('name = "p"', "name = "), "not TOML"),
        (FILE.replace("## system", "system"), "text stands under"),
        (
            FILE.replace("{{ question }}", "{{ question }} {{ level }}").replace('"question"', '"question", "level"'),
            "five texts",
        ),
    ],
)
def test_a_faulty_prompt_file_says_what_is_wrong(source: str, fault: str) -> None:
    with pytest.raises(PromptError, match=fault):
        Prompt.parse(source, where="p.md")
