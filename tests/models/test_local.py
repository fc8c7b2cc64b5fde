"""Local models: exact counts and scores, and files that are no models."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest
import xllamacpp

from fakes.random_gguf import CHAT_TEMPLATE, WINDOW, write_random_gguf
from sleeptime.core.errors import ContextTooLongError, NotSupportedError, UnknownModelError
from sleeptime.core.messages import Message
from sleeptime.core.usage import Usage
from sleeptime.models import open_model
from sleeptime.models.gguf_header import context_length
from sleeptime.models.local import LocalModel, lacks_avx2, open_gguf, physical_cores
from sleeptime.models.protocol import Options

CONTEXT = [Message("system", "sheets"), Message("user", "B2: A1 + 3 . hello there ")]


@pytest.fixture
async def local(random_gguf: Path) -> AsyncIterator[LocalModel]:
    model = await open_gguf("gguf:random", random_gguf)
    try:
        yield model
    finally:
        await model.aclose()


async def server_of(model: LocalModel) -> httpx2.AsyncClient:
    """The server's own routes: an independent way to the same numbers."""
    return model._client  # noqa: SLF001 - the key of the server is known to nobody else


async def log_probs_by_full_vocabulary(model: LocalModel, prompt: list[int]) -> dict[int, float]:
    """The log-probability of every token after *prompt*: nothing is forced, nothing cached."""
    client = await server_of(model)
    request = {"prompt": prompt, "n_predict": 1, "n_probs": 10_000, "temperature": 0, "cache_prompt": False}
    reply = (await client.post("/completion", json=request)).raise_for_status().json()
    return {entry["id"]: entry["logprob"] for entry in reply["completion_probabilities"][0]["top_logprobs"]}


async def tokens_of(model: LocalModel, text: str) -> list[int]:
    client = await server_of(model)
    request = {"content": text, "add_special": True, "parse_special": True}
    return list((await client.post("/tokenize", json=request)).raise_for_status().json()["tokens"])


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["what is B2 ?", "hello", "zzz", "é{}", "日本", "so<eos>?", "<user>"])
async def test_a_score_is_the_sum_of_independent_softmaxes(local: LocalModel, query: str) -> None:
    before = await tokens_of(local, "<sys>sheets<user>B2: A1 + 3 . hello there ")
    together = await tokens_of(local, "<sys>sheets<user>B2: A1 + 3 . hello there " + query)
    assert together[: len(before)] == before, "this text was chosen so that the seam is a token's edge"
    expected = 0.0
    for at in range(len(before), len(together)):
        distribution = await log_probs_by_full_vocabulary(local, together[:at])
        assert math.isclose(sum(map(math.exp, distribution.values())), 1, abs_tol=1e-3)
        expected += distribution[together[at]]

    scored = await local.log_prob(query, given=CONTEXT)

    assert scored.tokens == len(together) - len(before)
    assert scored.total == pytest.approx(expected, abs=1e-3)
    assert scored.mean == pytest.approx(expected / scored.tokens, abs=1e-3)


@pytest.mark.anyio
async def test_a_score_across_a_token_seam_stays_a_score_of_the_query(local: LocalModel) -> None:
    # "h" + "ello" would merge to "he" "ll" "o": the context keeps its tokens, the query gets its own.
    given = [Message("user", "say h")]

    scored = await local.log_prob("ello", given=given)

    before = await tokens_of(local, "<user>say h")
    own = (await tokens_of(local, "ello"))[1:]
    expected = 0.0
    for index, token in enumerate(own):
        expected += (await log_probs_by_full_vocabulary(local, before + own[:index]))[token]
    assert scored.tokens == len(own)
    assert scored.total == pytest.approx(expected, abs=1e-3)


@pytest.mark.anyio
async def test_scoring_evaluates_the_context_once(local: LocalModel) -> None:
    scored = await local.log_prob("what is B2 ?", given=CONTEXT)
    context = len(await tokens_of(local, "<sys>sheets<user>B2: A1 + 3 . hello there "))

    assert scored.usage.output_tokens == scored.tokens
    fresh = scored.usage.input_tokens - scored.usage.cached_input_tokens
    assert fresh <= context + 2 * scored.tokens


@pytest.mark.anyio
async def test_a_likely_query_scores_higher_than_an_unlikely_one(local: LocalModel) -> None:
    greedy = await local.complete([Message("user", "")], Options(max_output_tokens=8, temperature=0), prefix="")
    continued = [Message("user", "<asst>")]

    likely = await local.log_prob(greedy.text, given=continued)
    unlikely = await local.log_prob(greedy.text[::-1], given=continued)

    assert likely.mean > unlikely.mean


@pytest.mark.anyio
async def test_a_query_beyond_the_window_is_told_before_it_is_scored(local: LocalModel) -> None:
    with pytest.raises(ContextTooLongError):
        await local.log_prob("x " * WINDOW, given=CONTEXT)


@pytest.mark.anyio
async def test_every_slot_has_the_whole_window(local: LocalModel) -> None:
    assert local.abilities.context_window == WINDOW
    long = [Message("user", "x" * (WINDOW - 20))]
    usages: list[Usage] = []

    async def ask() -> None:
        usages.append((await local.generate(long, Options(max_output_tokens=4, temperature=0))).usage)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)

    assert [usage.output_tokens for usage in usages] == [4] * 4


@pytest.mark.anyio
async def test_a_shared_prefix_is_reported_as_cached(local: LocalModel) -> None:
    options = Options(max_output_tokens=2, temperature=0)
    await local.generate([Message("user", "a long shared context, then one")], options)

    again = await local.generate([Message("user", "a long shared context, then two")], options)

    assert again.usage.cached_input_tokens >= len("a long shared context")
    assert again.usage.cached_input_tokens < again.usage.input_tokens


@pytest.mark.anyio
async def test_a_seed_repeats_a_sampled_reply(local: LocalModel) -> None:
    def options(seed: int) -> Options:
        return Options(max_output_tokens=12, temperature=1.0, seed=seed)

    texts = [(await local.generate(CONTEXT, options(seed))).text for seed in (5, 5, 6, 7)]

    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


@pytest.mark.anyio
async def test_dials_a_local_model_lacks_are_refused(local: LocalModel) -> None:
    for options in (Options(max_output_tokens=1, effort="low"), Options(max_output_tokens=1, thinking_tokens=9)):
        with pytest.raises(NotSupportedError):
            await local.generate(CONTEXT, options)
        with pytest.raises(NotSupportedError):
            await local.complete(CONTEXT, options, prefix="")


@pytest.mark.anyio
@pytest.mark.parametrize("opened", ["<think>\n", "<think>", ""])
async def test_a_template_that_opens_the_thinking_and_a_forced_beginning_open_it_once(
    tmp_path: Path, opened: str
) -> None:
    template = CHAT_TEMPLATE.replace("<asst>{% endif %}", f"<asst>{opened}{{% endif %}}")
    path = write_random_gguf(tmp_path / "r1.gguf", chat_template=template)
    options = Options(max_output_tokens=3, temperature=0)
    model = await open_gguf("gguf:r1", path)

    forced = await model.complete(CONTEXT, options, prefix="<think>\nso 7")
    read = len(await tokens_of(model, "<sys>sheets<user>B2: A1 + 3 . hello there <asst><think>\nso 7"))
    answered = await model.complete(CONTEXT, options, prefix="The answer is")
    plain = len(await tokens_of(model, f"<sys>sheets<user>B2: A1 + 3 . hello there <asst>{opened}The answer is"))
    await model.aclose()

    assert template != CHAT_TEMPLATE or not opened
    assert forced.usage.input_tokens == read
    assert answered.usage.input_tokens == plain


@pytest.mark.anyio
async def test_a_reply_without_room_in_the_window_is_told_in_numbers(local: LocalModel) -> None:
    with pytest.raises(ContextTooLongError) as caught:
        await local.complete([Message("user", "x" * WINDOW)], Options(max_output_tokens=3), prefix="")

    assert caught.value.window == WINDOW
    assert caught.value.tokens == WINDOW + 3


@pytest.mark.anyio
async def test_closing_stops_the_server(random_gguf: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    first = await open_gguf("gguf:first", random_gguf)
    await first.aclose()
    idle = threads()
    model = await open_gguf("gguf:random", random_gguf)
    address = (await server_of(model)).base_url
    serving = threads()
    await model.aclose()

    assert serving > idle
    assert threads() == idle
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(address)


@pytest.mark.anyio
async def test_only_we_may_talk_to_the_server(local: LocalModel) -> None:
    address = (await server_of(local)).base_url
    async with httpx2.AsyncClient(base_url=address) as stranger:
        replies = [await stranger.post(route, json={"prompt": "a"}) for route in ("/completion", "/v1/completions")]

    assert [reply.status_code for reply in replies] == [401, 401]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        (b"", "not a GGUF file"),
        (b"%PDF-1.7 nothing here", "not a GGUF file"),
        (b"GGUF\x03\x00\x00\x00", "cut short"),
        (b"GGUF\x63\x00\x00\x00" + bytes(16), "version is not supported"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "damaged"),
    ],
)
async def test_a_file_that_is_no_model_is_told_quietly(
    tmp_path: Path, content: bytes | None, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UnknownModelError) as caught:
        await open_model(f"gguf:{path}", environ={})

    assert why in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [0.1, 0.3, 0.9])
async def test_a_truncated_model_is_told_quietly(
    tmp_path: Path, random_gguf: Path, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = random_gguf.read_bytes()  # noqa: ASYNC240 - nothing else runs in this test
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(UnknownModelError, match="cut short"):
        await open_model(f"gguf:{path}", environ={})
    assert capfd.readouterr() == ("", "")


@pytest.mark.anyio
async def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="it is a folder"):
        await open_model(f"gguf:{tmp_path}", environ={})


def test_the_header_tells_the_window(tmp_path: Path) -> None:
    assert context_length(write_random_gguf(tmp_path / "m.gguf", layers=1)) == WINDOW


def test_an_old_processor_is_recognised() -> None:
    assert lacks_avx2("processor: 0\nflags\t\t: fpu sse4_2 avx\n")
    assert not lacks_avx2("flags\t\t: fpu avx avx2 bmi2\n")
    assert not lacks_avx2(""), "where the system does not say, try"


def test_threads_of_one_core_count_once() -> None:
    def cpu(package: int, core: int) -> str:
        return f"processor\t: 0\nphysical id\t: {package}\nsiblings\t: 4\ncore id\t\t: {core}\n"

    hyperthreaded = "\n".join(cpu(0, core) for core in (0, 1, 0, 1))
    assert physical_cores(hyperthreaded, 4) == 2
    assert physical_cores(cpu(0, 0) + cpu(1, 0), 8) == 2
    assert physical_cores("", 6) == 6
    assert physical_cores(hyperthreaded, 1) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_llama_cpp_by_url_says_and_counts_the_same_as_the_file(
    local: LocalModel, random_gguf: Path, streamed: bool
) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(random_gguf)
    parameters.verbosity, parameters.port = -1, 0
    server = xllamacpp.Server(parameters)
    remote = await open_model(f"{server.listening_address}/v1", environ={})
    heard: list[str] = []
    options = Options(max_output_tokens=7, temperature=0, on_text=heard.append if streamed else None)

    by_url = await remote.generate(CONTEXT, options)
    by_file = await local.generate(CONTEXT, options)
    counted = await local.count_tokens(CONTEXT)
    await remote.aclose()

    assert by_url.text == by_file.text != ""
    assert by_url.usage == by_file.usage == Usage(input_tokens=counted.tokens, output_tokens=7)
    assert not streamed or "".join(heard) == by_url.text + by_file.text
    del server
