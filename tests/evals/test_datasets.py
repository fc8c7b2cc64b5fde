from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sleeptime.evals.data.datasets import NAMES, NO_TEXT, DatasetError, Hub, kind_of, load, stratum_of
from sleeptime.evals.data.scorers import is_correct, is_number

Rows = list[dict[str, Any]]
NOWHERE: dict[str, str] = {}


def gsm_row(template: int, instance: int) -> dict[str, Any]:
    question = f"Shop {template} sells {instance + 2} rugs. If a rug costs $1.50, how much does it earn?"
    return {"id": template, "instance": instance, "question": question, "answer": f"{instance} so\n#### {template}"}


def aime_row(problem: str) -> dict[str, Any]:
    return {"problem": problem, "expected_answer": "073"}


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Served:
    """A hub on loopback: files by path, rows by dataset; what was asked is kept."""

    files: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def reply(self, target: str) -> tuple[int, bytes]:
        self.asked.append(target)
        url = urlsplit(target)
        if url.path == "/rows":
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            offset, length = int(query["offset"]), int(query["length"])
            rows = self.rows[f"{query['dataset']}/{query['config']}/{query['split']}"]
            page = [{"row_idx": i, "row": row} for i, row in enumerate(rows)][offset : offset + length]
            return 200, json.dumps({"rows": page, "num_rows_total": len(rows)}).encode()
        found = self.files.get(url.path)
        return (404, b"no such file") if found is None else (200, found)


@contextmanager
def hub(served: Served, cache: Path, **settings: Any) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.reply(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Hub(files=f"{url}/datasets", rows=f"{url}/rows", cache=cache, **settings)
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


TWINS = "\n".join(
    json.dumps({"id": 1, "context": context, "queries": [{"question": "q", "answer": 1}]}) for context in "ab"
)
P1_PATH = "/datasets/apple/GSM-Symbolic/resolve/93b5b3758d9d9841ffe81d6cd2ae2b030685b078/p1/test.jsonl"


def test_every_context_of_a_generated_set_is_a_cluster_and_its_ids_say_the_seed() -> None:
    dataset = load("stateful-chains", seeds=(3, 4), contexts=5, queries_per_context=2, environ=NOWHERE)

    assert len(dataset.samples) == 2 * 5 * 2
    assert {sample.context_id.split("/")[0] for sample in dataset.samples} == {"seed-3", "seed-4"}
    assert all(sample.cluster == sample.context_id for sample in dataset.samples)
    assert all(sample.depth is not None and sample.answer == "stated" for sample in dataset.samples)
    assert len({sample.id for sample in dataset.samples}) == 20


def test_the_same_seeds_draw_the_same_set_and_others_another() -> None:
    first, again = (load("stateful-clocks", seeds=(1,), contexts=3, environ=NOWHERE) for _ in range(2))
    other = load("stateful-clocks", seeds=(2,), contexts=3, environ=NOWHERE)

    assert first == again
    assert first.sha256 != other.sha256
    assert not {sample.context for sample in first.samples} & {sample.context for sample in other.samples}


def test_a_grade_school_problem_is_cut_and_clustered_by_its_template(tmp_path: Path) -> None:
    write(tmp_path / "gsm-symbolic" / "GSM_p1.jsonl", [gsm_row(7, 0), gsm_row(7, 1)])

    dataset = load("gsm-symbolic-p1", data=tmp_path, environ=NOWHERE)

    first = dataset.samples[0]
    assert first.context == "Shop 7 sells 2 rugs. Suppose a rug costs $1.50."
    assert first.question == "How much does it earn?"
    assert (first.id, first.cluster, first.target, first.answer) == ("7/0", "template-7", "7", "number")
    assert len({sample.context_id for sample in dataset.samples}) == 2


def test_a_folder_may_hold_a_file_directly_and_the_environment_may_name_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "GSM_p1.jsonl", [gsm_row(1, 0)])

    dataset = load("gsm-symbolic-p1", environ={"SLEEPTIME_DATA": str(tmp_path)})

    assert len(dataset.samples) == 1
    assert "as released" in dataset.source
    assert "not pinned" in dataset.source


def test_the_first_contexts_are_of_as_many_templates_as_there_are(tmp_path: Path) -> None:
    rows = [gsm_row(template, instance) for template in range(6) for instance in range(4)]
    write(tmp_path / "GSM_p1.jsonl", rows)

    few, more = (load("gsm-symbolic-p1", data=tmp_path, contexts=count, environ=NOWHERE) for count in (6, 8))

    assert len({sample.cluster for sample in few.samples}) == 6
    assert more.samples[:6] == few.samples
    assert few.sha256 == more.sha256


def test_the_sha256_tells_splits_and_rows_apart(tmp_path: Path) -> None:
    write(tmp_path / "a" / "GSM_p1.jsonl", [gsm_row(1, 0)])
    write(tmp_path / "b" / "GSM_p1.jsonl", [gsm_row(1, 1)])

    hoisted = load("gsm-symbolic-p1", data=tmp_path / "a", split="hoist", environ=NOWHERE)
    whole = load("gsm-symbolic-p1", data=tmp_path / "a", split="sentence", environ=NOWHERE)
    other = load("gsm-symbolic-p1", data=tmp_path / "b", split="hoist", environ=NOWHERE)

    assert len({hoisted.sha256, whole.sha256, other.sha256}) == 3


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("gsm-symbolic-p2", "GSM_p2.jsonl", gsm_row(1, 0)),
        ("gsm-symbolic-p1", "GSM_p1_regenerated.jsonl", gsm_row(1, 0)),
        ("aime-2024", "nemo_aime24.jsonl", aime_row("Find $2+3$.")),
    ],
)
def test_a_known_file_with_other_rows_is_refused_with_both_hashes(
    tmp_path: Path, name: str, file: str, row: dict[str, Any]
) -> None:
    write(tmp_path / file, [row])

    with pytest.raises(DatasetError, match=r"sha256 of its rows is [0-9a-f]{64}, not [0-9a-f]{64}"):
        load(name, data=tmp_path, environ=NOWHERE)


def test_a_file_that_is_nowhere_is_downloaded_once(tmp_path: Path) -> None:
    served = Served(files={P1_PATH: json.dumps(gsm_row(2, 0)).encode()})

    with hub(served, tmp_path / "cache") as public:
        first = load("gsm-symbolic-p1", hub=public, environ=NOWHERE)
        again = load("gsm-symbolic-p1", hub=public, environ=NOWHERE)

    assert served.asked == [P1_PATH]
    assert first == again
    assert "apple/GSM-Symbolic" in first.source
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["GSM_p1.jsonl"]


def test_rows_are_fetched_page_by_page_where_the_hub_keeps_no_jsonl(tmp_path: Path) -> None:
    rows = [
        {"stateful_aime_context": f"Let $n$ be {i}.", "stateful_aime_question": "Find $n^2$.", "answer": i}
        for i in range(130)
    ]
    served = Served(rows={"letta-ai/stateful-aime-2024/default/train": rows})

    with hub(served, tmp_path) as public:
        dataset = load("aime-2024", hub=public, environ=NOWHERE)

    assert len(served.asked) == 2
    assert len(dataset.samples) == 130
    assert (dataset.samples[129].context, dataset.samples[129].target) == ("Let $n$ be 129.", "129")
    assert "Letta" in dataset.source


def test_steps_of_a_socratic_solution_become_queries_on_one_context(tmp_path: Path) -> None:
    row = {
        "question": "A van has 4 wheels. There are 3 vans and 2 bikes. How many wheels are there?",
        "answer": "How many wheels have vans? ** They have 4*3=<<4*3=12>>12.\nHow many have bikes? ** 2*2=<<2*2=4>>4.\n"
        "How many in all? ** 12+4=<<12+4=16>>16.\n#### 16",
    }
    served = Served(rows={"openai/gsm8k/socratic/test": [row]})

    with hub(served, tmp_path) as public:
        dataset = load("gsm8k-socratic", hub=public, environ=NOWHERE)

    assert {sample.context for sample in dataset.samples} == {"A van has 4 wheels. There are 3 vans and 2 bikes."}
    assert [(sample.question, sample.target) for sample in dataset.samples] == [
        ("How many wheels have vans?", "12"),
        ("How many have bikes?", "4"),
        ("How many wheels are there?", "16"),
    ]


def test_a_query_that_states_the_answer_of_another_is_left_out(tmp_path: Path) -> None:
    row = {
        "question": "Ann has 3 cats and 4 dogs. How many legs are there?",
        "answer": "How many pets? ** 3+4=<<3+4=7>>7.\nIf there are 7 pets, how many paws? ** 7*4=<<7*4=28>>28.\n"
        "How many legs? ** <<28=28>>28\n#### 28",
    }
    write(tmp_path / "test_socratic.jsonl", [row])

    dataset = load("gsm8k-socratic", data=tmp_path, environ=NOWHERE)

    assert [sample.question for sample in dataset.samples] == ["How many pets?", "How many legs are there?"]


def test_a_download_that_fails_says_how_to_get_the_file_by_hand(tmp_path: Path) -> None:
    with hub(Served(), tmp_path) as public, pytest.raises(DatasetError, match=r"404.*GSM_p2\.jsonl.*--data"):
        load("gsm-symbolic-p2", hub=public, environ=NOWHERE)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    nowhere = Hub(files="http://127.0.0.1:9/datasets", rows="http://127.0.0.1:9/rows", cache=tmp_path, timeout_s=2)

    with pytest.raises(DatasetError, match="could not be downloaded"):
        load("aime-2025", hub=nowhere, environ=NOWHERE)


def test_a_download_beyond_the_limit_is_stopped(tmp_path: Path) -> None:
    served = Served(files={P1_PATH: json.dumps(gsm_row(2, 0)).encode()})

    with hub(served, tmp_path, limit_bytes=20) as public, pytest.raises(DatasetError, match="larger than"):
        load("gsm-symbolic-p1", hub=public, environ=NOWHERE)
    assert not list(tmp_path.iterdir())


def test_a_download_of_other_rows_than_are_known_is_refused_and_not_kept(tmp_path: Path) -> None:
    served = Served(files={P1_PATH.replace("p1", "p2"): json.dumps(gsm_row(2, 0)).encode()})

    with hub(served, tmp_path) as public, pytest.raises(DatasetError, match="sha256 of its rows"):
        load("gsm-symbolic-p2", hub=public, environ=NOWHERE)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_stops_giving_rows_is_an_error(tmp_path: Path) -> None:
    class Stopping(Served):
        def reply(self, target: str) -> tuple[int, bytes]:
            self.asked.append(target)
            return 200, b'{"rows": [], "num_rows_total": 30}'

    with hub(Stopping(), tmp_path) as public, pytest.raises(DatasetError, match="0 of 30 rows"):
        load("aime-2024", hub=public, environ=NOWHERE)


def test_the_split_of_the_paper_stays_as_it_was_published(tmp_path: Path) -> None:
    row = {
        "id": 3,
        "instance": 1,
        "stateful_gsm_symbolic_context": "A rug costs $1. 50.",
        "stateful_gsm_symbolic_question": "If she buys 2, how much is it?",
        "answer": "#### 3",
    }
    write(tmp_path / "stateful_gsm_symbolic_p1.jsonl", [row])

    (sample,) = load("stateful-gsm-symbolic-p1", data=tmp_path, environ=NOWHERE).samples

    assert (sample.context, sample.question) == ("A rug costs $1. 50.", "If she buys 2, how much is it?")
    assert (sample.cluster, sample.target) == ("template-3", "3")


def test_a_problem_without_a_context_is_told_and_not_dropped(tmp_path: Path) -> None:
    write(tmp_path / "GSM_p1.jsonl", [gsm_row(1, 0) | {"question": "How many days are 2 weeks?"}])

    (sample,) = load("gsm-symbolic-p1", data=tmp_path, environ=NOWHERE).samples

    assert (sample.context, sample.stratum) == (NO_TEXT, "empty context")


@pytest.mark.parametrize(
    ("context", "query", "stratum"),
    [
        ("", "Find $2+3$.", "empty context"),
        (r"The ratio is $\frac{m}{n}$, where $m$ and $n$ are coprime integers.", "Find $m+n$.", "target in context"),
        ("Let $N$ be the number of red maps.", "Find the remainder when $N$ is divided by $7$.", "target in context"),
        ("Let $K$ denote the sum of the roots.", "What is the value of $K$?", "target in context"),
        (r"Let \(p\) and \(q\) be primes with sum \(9\).", r"Find \(pq\).", "target in context"),
        ("Let $ABC$ be a triangle with $AB=5$.", "Find $AB$.", "target withheld"),
        ("Let $x$ and $y$ be reals with $x+y=3$.", "Find $xy$.", "target withheld"),
        ("Let $n$ be a positive integer.", "Find the number of $n$ that are red.", "target withheld"),
        ("Let $m$ be the number of maps.", "Find $m+k$.", "target withheld"),
        ("There are 9 maps.", "Find the number of ways to fold them.", "target withheld"),
    ],
)
def test_whether_the_context_states_the_target(context: str, query: str, stratum: str) -> None:
    assert stratum_of(context, query) == stratum


def own(tmp_path: Path, *lines: object) -> str:
    return str(write(tmp_path / "mine.jsonl", [dict(line) for line in lines]))  # type: ignore[call-overload]  # rows


def test_your_own_file_needs_only_contexts_queries_and_answers(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        {
            "context": "Rent is 3.",
            "queries": [{"question": "Rent?", "answer": 3}, {"question": "Who?", "answer": "Ann"}],
        },
        {"context": "Pick one.", "queries": [{"question": "Which?", "answer": "B"}], "id": "x", "cluster": "k"},
    )

    dataset = load(path, environ=NOWHERE)

    assert dataset.name == "mine"
    assert [sample.answer for sample in dataset.samples] == ["number", "text", "choice"]
    assert [sample.id for sample in dataset.samples] == ["0/0", "0/1", "x/0"]
    assert [sample.cluster for sample in dataset.samples] == ["0", "0", "k"]
    assert dataset.samples[0].target == "3"


def test_contexts_and_queries_of_your_own_file_can_be_limited(tmp_path: Path) -> None:
    queries = [{"question": f"{i}?", "answer": i} for i in range(3)]
    path = own(tmp_path, *({"context": f"Text {i}.", "queries": queries} for i in range(4)))

    dataset = load(path, contexts=2, queries_per_context=2, environ=NOWHERE)

    assert [sample.id for sample in dataset.samples] == ["0/0", "0/1", "1/0", "1/1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("{", "line 1: not JSON"),
        ('{"context": "a", "queries": [{"question": "q", "answer": 1}]}\n[]', "line 2: not a JSON object"),
        ('{"queries": [{"question": "q", "answer": 1}]}', "line 1: 'context' is missing"),
        ('{"context": " ", "queries": [{"question": "q", "answer": 1}]}', "line 1: 'context' is missing or no text"),
        ('{"context": "a"}', "line 1: 'queries' is not a list"),
        ('{"context": "a", "queries": []}', "line 1: 'queries' is not a list of queries"),
        ('{"context": "a", "queries": ["q"]}', "line 1: query 1 is not an object"),
        ('{"context": "a", "queries": [{"question": "q"}]}', "line 1, query 1: 'answer' is missing"),
        ('{"context": "a", "queries": [{"question": "q", "answer": null}]}', "line 1, query 1: 'answer' is missing"),
        ('\n{"context": "a", "queries": [{"answer": true}]}', "line 2, query 1: 'answer' is missing"),
        (TWINS, "two contexts have the id '1'"),
    ],
)
def test_an_error_in_your_own_file_names_file_line_and_what_to_write(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DatasetError) as raised:
        load(str(path), environ=NOWHERE)

    assert told in str(raised.value)
    assert "mine.jsonl" in str(raised.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DatasetError, match="not UTF-8"):
        load(str(path), environ=NOWHERE)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(DatasetError, match=r"stateful-chains.*aime"):
        load("no-such-set", environ=NOWHERE)


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no folder"):
        load("aime", data=tmp_path / "gone", environ=NOWHERE)


@pytest.mark.parametrize(
    ("target", "kind"), [("3", "number"), ("$4,500", "number"), ("B", "choice"), ("b", "text"), ("3 cats", "text")]
)
def test_the_kind_of_an_answer_follows_from_it(target: str, kind: str) -> None:
    assert kind_of(target) == kind


# On the real files, where they are.

DATA = os.environ.get("SLEEPTIME_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SLEEPTIME_DATA names no folder of datasets")
SIZES = {
    "gsm-symbolic-p1": (5000, 5000, 100),
    "gsm-symbolic-p2": (2500, 2500, 50),
    "aime": (60, 60, 60),
    "gsm8k-socratic": (4148, 1259, 1259),
}


def test_the_sizes_checked_are_of_known_sets() -> None:
    assert set(SIZES) <= set(NAMES)


@needs_data
@pytest.mark.parametrize("name", SIZES)
def test_a_real_file_gives_as_many_queries_contexts_and_clusters_as_it_should(name: str) -> None:
    samples = load(name, data=Path(DATA or "")).samples

    clusters, contexts = ({getattr(sample, key) for sample in samples} for key in ("cluster", "context_id"))
    assert (len(samples), len(contexts), len(clusters)) == SIZES[name]
    assert len({sample.id for sample in samples}) == len(samples)
    assert all(is_number(sample.target) for sample in samples)
    assert all(is_correct(f"The answer is {sample.target}.", sample.target, sample.answer) for sample in samples)


@needs_data
def test_the_regenerated_file_is_never_passed_off_as_the_released_one() -> None:
    dataset = load("gsm-symbolic-p1", data=Path(DATA or ""), contexts=50)

    assert "regenerated from Apple's P1 templates" in dataset.source
    assert "as released" not in dataset.source
    assert len({sample.cluster for sample in dataset.samples}) == 50


@needs_data
@pytest.mark.parametrize(
    ("split", "strata"),
    [
        ("sentence", {"target in context": 27, "target withheld": 28, "empty context": 5}),
        ("hoist", {"target in context": 28, "target withheld": 27, "empty context": 5}),
    ],
)
def test_the_strata_of_aime(split: Any, strata: dict[str, int]) -> None:
    counts = Counter(sample.stratum for sample in load("aime", data=Path(DATA or ""), split=split).samples)

    assert counts == strata
