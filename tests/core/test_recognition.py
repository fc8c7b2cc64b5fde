"""What recurs in requests is found, and nothing else."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.recognition import MOST_PIECES, Part, Prefix, Recogniser, name_of

DOCUMENT = "\n\n".join(f"Paragraph {n} says that box {n} holds {n * n} marbles and a letter." for n in range(60))
SYSTEM = Part("system", DOCUMENT)


def user(text: str) -> Part:
    return Part("user", text)


def assistant(text: str) -> Part:
    return Part("assistant", text)


def seen(requests: list[list[Part]]) -> list[Prefix | None]:
    recogniser = Recogniser(least_characters=500)
    return [recogniser.see(request) for request in requests]


def test_a_document_in_the_system_prompt_is_recognised_the_second_time() -> None:
    first, second = seen([[SYSTEM, user("one?")], [SYSTEM, user("two?")]])

    assert first is None
    assert second is not None
    assert second.text([SYSTEM, user("two?")]) == DOCUMENT
    assert not second.is_followed


def test_a_document_before_the_question_in_one_message_is_cut_off_it() -> None:
    requests = [[user(f"{DOCUMENT}\n\nQuestion {n}: how many?")] for n in range(3)]

    *_, last = seen(requests)

    assert last is not None
    assert last.text(requests[-1]).rstrip() == DOCUMENT
    assert requests[-1][0].text[last.cut :] == "Question 2: how many?"


def test_tools_stand_in_the_prefix_before_the_messages() -> None:
    tools = Part("tools", '[{"name": "search"}]' * 50)

    *_, last = seen([[tools, user("one?")], [tools, user("two?")]])

    assert last is not None
    assert (last.part, last.cut) == (0, len(tools.text))


def test_another_document_is_another_context() -> None:
    other = Part("system", DOCUMENT.upper())

    found = seen([[SYSTEM, user("1")], [other, user("1")], [SYSTEM, user("2")], [other, user("2")]])

    assert found[:2] == [None, None]
    assert found[2] is not None
    assert found[3] is not None
    assert found[2].key != found[3].key


def test_a_short_prefix_is_none() -> None:
    assert seen([[Part("system", "Be brief."), user(str(n))] for n in range(5)]) == [None] * 5


def test_a_conversation_is_followed_and_grows() -> None:
    talk = [Part("system", "Be brief."), user(DOCUMENT)]
    requests = [talk]
    for turn in range(3):
        requests.append([*requests[-1], assistant(f"Answer {turn}."), user(f"And {turn}?")])

    first, *later = seen(requests)

    assert first is None
    assert all(prefix is not None and prefix.is_followed for prefix in later)
    texts = [prefix.text(request) for prefix, request in zip(later, requests[1:], strict=True) if prefix]
    assert len({prefix.key for prefix in later if prefix}) == 1
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(texts))
    assert texts[-1].endswith("user: And 1?")


def test_turns_of_one_conversation_do_not_make_a_shared_context() -> None:
    requests = [[SYSTEM, user("one?")]]
    requests.append([*requests[-1], assistant("1."), user("two?")])

    _, second = seen(requests)

    assert second is not None
    assert second.is_followed


def test_a_shared_document_stays_the_context_of_conversations_on_it() -> None:
    found = seen(
        [
            [SYSTEM, user("one?")],
            [SYSTEM, user("two?")],
            [SYSTEM, user("two?"), assistant("2."), user("three?")],
            [SYSTEM, user("two?"), assistant("2."), user("three?"), assistant("3."), user("four?")],
        ]
    )

    assert len({prefix.key for prefix in found[1:] if prefix}) == 1
    assert not any(prefix.is_followed for prefix in found[1:] if prefix)


def test_the_query_of_a_loop_of_tools_is_its_last_user_message() -> None:
    asked = [SYSTEM, user("one?")]
    loop = [*asked, assistant("call"), Part("tool", "result")]

    *_, last = seen([[SYSTEM, user("other?")], asked, loop])

    assert last is not None
    assert (last.part, last.cut) == (0, len(DOCUMENT))


def test_what_was_not_seen_for_longest_is_forgotten() -> None:
    recogniser = Recogniser(least_characters=10, most_nodes=20)
    for n in range(100):
        recogniser.see([Part("system", f"A system prompt with the number {n}."), user("q")])

    assert len(recogniser) == 20
    assert recogniser.see([Part("system", "A system prompt with the number 3."), user("r")]) is None
    assert recogniser.see([Part("system", "A system prompt with the number 99."), user("r")]) is not None


def test_a_request_of_a_million_pieces_takes_bounded_memory() -> None:
    recogniser = Recogniser(least_characters=10)

    recogniser.see([user(str(n)) for n in range(3 * MOST_PIECES)])

    assert len(recogniser) == MOST_PIECES


@pytest.mark.parametrize("parts", [[], [Part("system", "")], [user("")]])
def test_an_empty_request_has_no_prefix(parts: list[Part]) -> None:
    assert seen([parts, parts, parts]) == [None, None, None]


def test_a_name_has_the_first_words_and_the_key() -> None:
    assert name_of("# The Invoices of 2024, all", "abcdef0123456789") == "the-invoices-of-2024-abcdef01"


_texts = st.text(alphabet="ab \n", max_size=60)
_requests = st.lists(
    st.lists(st.builds(Part, st.sampled_from(["system", "user", "assistant"]), _texts), max_size=5), max_size=8
)


@given(_requests)
def test_a_prefix_is_the_beginning_of_two_requests_and_leaves_a_query(requests: list[list[Part]]) -> None:
    recogniser = Recogniser(least_characters=3)
    for number, request in enumerate(requests):
        found = recogniser.see(request)
        if found is None:
            continue
        head = [*request[: found.part], Part(request[found.part].role, request[found.part].text[: found.cut])]
        last = max((at for at, part in enumerate(request) if part.role == "user"), default=None)
        earlier = [
            each
            for each in requests[:number]
            if len(each) > found.part
            and each[: found.part] == head[:-1]
            and each[found.part].role == head[-1].role
            and each[found.part].text.startswith(head[-1].text)
        ]
        assert earlier
        assert found.characters == sum(len(part.text) for part in head) >= 3
        assert last is None or found.part < last or (found.part == last and found.cut < len(request[last].text))
