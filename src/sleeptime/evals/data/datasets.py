"""The data of the evaluation: every dataset becomes samples, one for each query.

    load(name, data=…, split=…) → Dataset(samples, sha256, source, licence)

A name is one of NAMES, or the path of your own JSONL file. Files are looked for in the folder
*data*, else in $SLEEPTIME_DATA, else they are downloaded once by name into the cache folder.
`stateful-chains` and `stateful-clocks` are generated from their seeds and need no file.

`sha256` is that of the samples themselves, all of them before a limit is applied, so it tells
other rows, another split and another splitter apart. `source` also tells the file's own. Where
the rows of a public file are known here, a file with other rows is refused.

A problem that is nothing but its question has an empty context. It is kept, in a stratum of its
own, and its context is written as NO_TEXT, because a context needs text to think about.

AIME problems lie in three strata, told apart by `stratum_of`:
    target in context   the query asks for an expression (perhaps its remainder, or a difference)
                        in names whose meaning as numbers the context states: "m and n are
                        relatively prime positive integers", "let N be the number of". Who reads
                        the context alone can work out the target.
    target withheld     only the query says what is sought
    empty context       there is no context
This file knows nothing about models or scores.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2
import platformdirs

from sleeptime.core.errors import InputError
from sleeptime.evals.data import chains
from sleeptime.evals.data.scorers import AnswerKind, is_number
from sleeptime.evals.data.splitter import SplitMode, split_question

NO_TEXT = "(no text)"
LIMIT_BYTES = 64_000_000
TIMEOUT_S = 30.0
DEADLINE_S = 300.0
PAGE = 100
"""Rows that the hub gives at a time."""

NAMES: dict[str, str] = {
    "stateful-chains": "generated sheets of formulas, held out from the tiny model's training; ask by --seeds",
    "stateful-clocks": "the same in plain English sentences",
    "gsm-symbolic-p1": "grade-school problems with one clause added (Apple), split here",
    "gsm-symbolic-p2": "grade-school problems with two clauses added (Apple), split here",
    "stateful-gsm-symbolic-p1": "the same as the paper split them, for comparison (Letta)",
    "stateful-gsm-symbolic-p2": "the same as the paper split them, for comparison (Letta)",
    "aime-2024": "30 competition problems, in three strata",
    "aime-2025": "30 competition problems, in three strata",
    "aime": "both years of AIME",
    "gsm8k-socratic": "several queries a context, openly licensed (OpenAI)",
}


class DatasetError(InputError):
    """A dataset cannot be found, read or trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One query: its context, what answers it, and how answers are compared."""

    id: str
    context_id: str
    cluster: str
    context: str
    question: str
    target: str
    answer: AnswerKind = "number"
    stratum: str = ""
    depth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples, and where they come from."""

    name: str
    sha256: str
    source: str
    licence: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """The public hub of datasets, and the folder that keeps what came from it."""

    files: str = "https://huggingface.co/datasets"
    rows: str = "https://datasets-server.huggingface.co/rows"
    cache: Path = field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("sleeptime", appauthor=False), "datasets")
    )
    timeout_s: float = TIMEOUT_S
    deadline_s: float = DEADLINE_S
    limit_bytes: int = LIMIT_BYTES


Rows = list[dict[str, Any]]  # Any: JSON, checked where it is read
_Reader = Callable[[str, "Rows", SplitMode], list[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of rows: the names it goes by, the sha256 of its rows where known, and where the hub has it.

    On the hub it is the file at `path` of `page`, else all rows of a `part` of a `config` of `page`.
    """

    names: tuple[str, ...]
    words: str
    licence: str
    rows_sha256: str | None = None
    folder: str = ""
    page: str = ""
    path: str = ""
    config: str = "default"
    part: str = "train"


_GSM_LICENCE = "CC BY-NC-ND 4.0"
_AIME_LICENCE = "problems (c) Mathematical Association of America, for evaluation only"
_FILES: dict[str, tuple[_File, ...]] = {
    "gsm-symbolic-p1": (
        _File(
            names=("GSM_p1.jsonl",),
            words="GSM-Symbolic P1 as released by Apple",
            licence=_GSM_LICENCE,
            page="apple/GSM-Symbolic",
            path="resolve/93b5b3758d9d9841ffe81d6cd2ae2b030685b078/p1/test.jsonl",
            folder="gsm-symbolic",
        ),
        _File(
            names=("GSM_p1_regenerated.jsonl",),
            words="regenerated from Apple's P1 templates with other numbers, not the released P1",
            licence="Apple sample code licence (the templates)",
            rows_sha256="fecd26c8a992c85c34a78ec3c1d87ded53f56e94c9c022493879fb8f70a39125",
            folder="gsm-symbolic",
        ),
    ),
    "gsm-symbolic-p2": (
        _File(
            names=("GSM_p2.jsonl",),
            words="GSM-Symbolic P2 as released by Apple",
            licence=_GSM_LICENCE,
            rows_sha256="a782cf6077b5827b69a7d764e38b7127255d45b96aacec52128fd924359149b8",
            page="apple/GSM-Symbolic",
            path="resolve/93b5b3758d9d9841ffe81d6cd2ae2b030685b078/p2/test.jsonl",
            folder="gsm-symbolic",
        ),
    ),
    "aime-2024": (
        _File(
            names=("nemo_aime24.jsonl",),
            words="AIME 2024 I and II, as compiled by NVIDIA NeMo Skills",
            licence=_AIME_LICENCE,
            rows_sha256="575234b7f963f0cf7f311b7716e5a0e3f88b3852bc17575289fe588585609341",
            folder="aime",
        ),
        _File(
            names=("stateful_aime_2024.jsonl",),
            words="Stateful AIME 2024 (Letta), the order of sentences changed by hand in places",
            licence=_AIME_LICENCE,
            page="letta-ai/stateful-aime-2024",
            folder="aime",
        ),
    ),
    "aime-2025": (
        _File(
            names=("nemo_aime25.jsonl",),
            words="AIME 2025 I and II, as compiled by NVIDIA NeMo Skills",
            licence=_AIME_LICENCE,
            rows_sha256="e9c74388626882e2d9e84899f7eb3bec992125d9a1c47c90f6533116f7b69359",
            folder="aime",
        ),
        _File(
            names=("stateful_aime_2025.jsonl",),
            words="Stateful AIME 2025 (Letta), the order of sentences changed by hand in places",
            licence=_AIME_LICENCE,
            page="letta-ai/stateful-aime-2025",
            folder="aime",
        ),
    ),
    "gsm8k-socratic": (
        _File(
            names=("multi_query_gsm8k_socratic.jsonl",),
            words="several queries a context, made from the Socratic form of GSM8K (OpenAI)",
            licence="MIT",
            rows_sha256="7a1e694c7fcab3968d6fd13b03736b4dc4c8c0fc4dc0f7ca855ccdc57ee0deb8",
            folder="gsm8k",
        ),
        _File(
            names=("test_socratic.jsonl",),
            words="the Socratic form of GSM8K, test part (OpenAI), its steps taken as queries",
            licence="MIT",
            folder="gsm8k",
            page="openai/gsm8k",
            config="socratic",
            part="test",
        ),
    ),
} | {
    f"stateful-gsm-symbolic-{part}": (
        _File(
            names=(f"stateful_gsm_symbolic_{part}.jsonl",),
            words=f"Stateful GSM-Symbolic {part.upper()}, split by the paper's authors (Letta)",
            licence=_GSM_LICENCE,
            page="letta-ai/stateful-gsm-symbolic",
            path=f"resolve/main/stateful_gsm_symbolic_{part}.jsonl",
            folder="gsm-symbolic",
        ),
    )
    for part in ("p1", "p2")
}
GENERATED = {"stateful-chains": "sheets", "stateful-clocks": "clocks"}
"""Datasets that are drawn from seeds, and the family of each."""
_PARTS = {"aime": ("aime-2024", "aime-2025")}


def load(
    name: str,
    *,
    data: Path | None = None,
    split: SplitMode = "hoist",
    seeds: Sequence[int] = (1,),
    contexts: int | None = None,
    queries_per_context: int | None = None,
    hub: Hub | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Dataset:
    """Load the dataset *name*, or your own JSONL file at that path.

    *contexts* limits the number of contexts, of each seed for generated ones; problems of one
    template come round and round, so that the first contexts are of as many templates as there
    are. Raises DatasetError, which says what to write or where to get the file.
    """
    if name in GENERATED:
        return _generated(name, seeds, contexts, queries_per_context)
    if data is None and (given := environ.get("SLEEPTIME_DATA")):
        data = Path(given).expanduser()
    if name in NAMES:
        parts = [_read_known(part, data, split, hub or Hub()) for part in _PARTS.get(name, (name,))]
    else:
        parts = [_read_own(name)]
    samples = [sample for part in parts for sample in part.samples]
    return Dataset(
        name=parts[0].name if len(parts) == 1 else name,
        sha256=_sha256_of(asdict(sample) for sample in samples),
        source="; ".join(part.source for part in parts),
        licence="; ".join(dict.fromkeys(part.licence for part in parts)),
        samples=tuple(_limited(samples, contexts, queries_per_context)),
    )


def stratum_of(context: str, query: str) -> str:
    """Say whether *context* already states what *query* asks for: the module says how this is told."""
    if not context.strip():
        return "empty context"
    names = _names_asked_for(query)
    declared = [sentence for sentence in re.split(r"(?<=[.?!])\s+", context) if _DECLARES.search(sentence)]
    stated = {name for sentence in declared for name in _names_in(sentence)}
    return "target in context" if names and names <= stated else "target withheld"


_DECLARES = re.compile(
    r"\bintegers?\b|\bprimes?\b|\bthe number of\b|\bquotient\b|\bvalues of\b|\bdenote\b", re.IGNORECASE
)
_MATH = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)")
_ASKING_WORDS = frozenset(
    re.findall(
        r"\w+", "find compute determine evaluate what is the value of remainder when divided by difference between and"
    )
)


def _names_in(text: str) -> set[str]:
    """The one-letter names in the math of *text*. In small letters pq is a product; AB is a segment."""
    math = " ".join(inline or other for inline, other in _MATH.findall(text))
    found = re.findall(r"(?<![A-Za-z])(?:[a-z]{2}|[A-Za-z])(?![A-Za-z])", re.sub(r"\\[A-Za-z]+", " ", math))
    return set("".join(found))


def _names_asked_for(query: str) -> set[str]:
    """The names of the expression that *query* asks for, or nothing if it asks for something in words."""
    asking = re.split(r"[,;]\s*(?=find\b)", query)[-1]
    words = set(re.findall(r"[a-z]+", _MATH.sub(" ", asking).casefold()))
    return _names_in(asking) if words <= _ASKING_WORDS else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    name: str
    source: str
    licence: str
    samples: list[Sample]


def _generated(name: str, seeds: Sequence[int], contexts: int | None, queries: int | None) -> Dataset:
    drawn = [
        (seed, number, sheet)
        for seed in seeds
        for number, sheet in enumerate(
            chains.draw(seed, contexts=contexts or 500, queries_per_context=queries or 4, family=GENERATED[name])
        )
    ]
    samples = tuple(
        Sample(
            id=f"seed-{seed}/{number}/{place}",
            context_id=f"seed-{seed}/{number}",
            cluster=f"seed-{seed}/{number}",
            context=sheet.text,
            question=query.question,
            target=query.answer,
            answer="stated",
            depth=query.depth,
        )
        for seed, number, sheet in drawn
        for place, query in enumerate(sheet.queries)
    )
    return Dataset(
        name=name,
        sha256=_sha256_of(asdict(sample) for sample in samples),
        source=f"generated, held out, from seeds {', '.join(map(str, seeds))}",
        licence="Apache-2.0",
        samples=samples,
    )


def _read_known(name: str, data: Path | None, split: SplitMode, hub: Hub) -> _Part:
    file, raw, origin = _found(name, data, hub)
    rows = _rows(raw, origin)
    sha256 = hashlib.sha256(raw).hexdigest()
    pinned = "rows pinned" if file.rows_sha256 else "not pinned"
    return _Part(
        name=name,
        source=f"{file.words}; {origin}, sha256 {sha256}, {pinned}; {_split_words(name, split)}",
        licence=file.licence,
        samples=_reader(name)(name, rows, split),
    )


def _split_words(name: str, split: SplitMode) -> str:
    if name == "gsm8k-socratic":
        return "queries that state the answer of another left out"
    return "split as published" if name.startswith("stateful-") else f"split: {split}"


def _found(name: str, data: Path | None, hub: Hub) -> tuple[_File, bytes, str]:
    """The file, its bytes and where they lie: in *data*, in the cache, or else on the hub."""
    files = _FILES[name]
    wanted = " or ".join(file_name for file in files for file_name in file.names)
    if data is not None and not data.exists():
        raise DatasetError(f"There is no folder {data}. Give the folder that holds {wanted}.")
    if data is not None and data.is_file():
        known = next((file for file in files if data.name in file.names), files[0])
        return known, _checked(known, _bytes_of(data), str(data)), str(data)
    for file in files:
        for folder in [data / file.folder, data] if data is not None else []:
            for path in (folder / file_name for file_name in file.names):
                if path.is_file():
                    return file, _checked(file, _bytes_of(path), str(path)), path.name
    published = next(file for file in files if file.page)
    path = hub.cache / published.names[0]
    url = f"{hub.files}/{published.page}"
    if path.is_file():
        return published, _checked(published, _bytes_of(path), str(path)), url
    try:
        raw = _checked(published, _downloaded(published, hub), url)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_bytes(raw)
        partial.replace(path)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{name} could not be downloaded from {url}: {error or type(error).__name__}. "
            f"Get it by hand, put it as {wanted} into a folder and give that folder with --data."
        ) from error
    return published, raw, url


def _checked(file: _File, raw: bytes, origin: str) -> bytes:
    """The bytes, if their rows are those that are known of this file, or nothing is known of it."""
    rows_sha256 = _sha256_of(_rows(raw, origin))
    if file.rows_sha256 and rows_sha256 != file.rows_sha256:
        raise DatasetError(
            f"{origin} is not {file.words}: the sha256 of its rows is {rows_sha256}, not {file.rows_sha256}. "
            "Get the file again, or give your own data by its path."
        )
    return raw


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error


def _downloaded(file: _File, hub: Hub) -> bytes:
    """Get a file by its path, or row by row where its format is the hub's affair."""
    limits = httpx2.Timeout(hub.timeout_s)
    with httpx2.Client(timeout=limits, follow_redirects=True) as client:
        until_s = time.monotonic() + hub.deadline_s
        if file.path:
            return _body(client, f"{hub.files}/{file.page}/{file.path}", {}, hub.limit_bytes, until_s)
        rows: Rows = []
        total = 1
        while len(rows) < total:
            asked = {"dataset": file.page, "config": file.config, "split": file.part}
            asked |= {"offset": str(len(rows)), "length": str(PAGE)}
            page = json.loads(_body(client, hub.rows, asked, hub.limit_bytes, until_s))
            total = int(page["num_rows_total"])
            got = [row["row"] for row in page["rows"]]
            if not got:
                raise ValueError(f"the hub gave {len(rows)} of {total} rows")
            rows += got
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _body(client: httpx2.Client, url: str, asked: Mapping[str, str], limit_bytes: int, until_s: float) -> bytes:
    body = bytearray()
    with client.stream("GET", url, params=asked) as reply:
        reply.raise_for_status()
        for chunk in reply.iter_bytes():
            body += chunk
            if len(body) > limit_bytes:
                raise ValueError(f"it is larger than {limit_bytes / 1e6:g} MB")
            if time.monotonic() > until_s:
                raise ValueError("it took too long")
    return bytes(body)


def _rows(raw: bytes, path: object) -> Rows:
    """Read JSONL, blank lines aside. Errors name the line."""
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text. Write one JSON object a line.") from None
    rows: Rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)  # Any: checked here
        except (json.JSONDecodeError, RecursionError) as error:
            raise DatasetError(f"{path}, line {number}: not JSON ({error}). Write one JSON object a line.") from None
        if not isinstance(row, dict):
            raise DatasetError(f"{path}, line {number}: not a JSON object. Write {OWN_FORMAT}.")
        rows.append({"line": number} | row)
    if not rows:
        raise DatasetError(f"{path} is empty. Write one JSON object a line: {OWN_FORMAT}.")
    return rows


OWN_FORMAT = '{"context": "…", "queries": [{"question": "…", "answer": "…"}]}'


def _reader(name: str) -> _Reader:
    if name.startswith("gsm-symbolic"):
        return _read_gsm
    if name.startswith("stateful-gsm"):
        return _read_stateful_gsm
    return _read_aime if name.startswith("aime") else _read_socratic


def _read_gsm(name: str, rows: Rows, split: SplitMode) -> list[Sample]:
    samples: list[Sample] = []
    for row in rows:
        cut = split_question(_text(row, "question", name), split)
        samples.append(
            Sample(
                id=f"{row['id']}/{row['instance']}",
                context_id=f"{row['id']}/{row['instance']}",
                cluster=f"template-{row['id']}",
                context=cut.context or NO_TEXT,
                question=cut.query,
                target=_solution(_text(row, "answer", name)),
                stratum="empty context" if cut.is_context_empty else "",
            )
        )
    return samples


def _read_stateful_gsm(name: str, rows: Rows, split: SplitMode) -> list[Sample]:  # noqa: ARG001 - split by its authors
    samples: list[Sample] = []
    for number, row in enumerate(rows):
        template, instance = row.get("id", number), row.get("instance", 0)
        context = _text(row, "stateful_gsm_symbolic_context", name).strip()
        is_empty = not context.strip(". ")
        samples.append(
            Sample(
                id=f"{template}/{instance}",
                context_id=f"{template}/{instance}",
                cluster=f"template-{template}",
                context=NO_TEXT if is_empty else context,
                question=_text(row, "stateful_gsm_symbolic_question", name),
                target=_solution(_text(row, "answer", name)),
                stratum="empty context" if is_empty else "",
            )
        )
    return samples


def _read_aime(name: str, rows: Rows, split: SplitMode) -> list[Sample]:
    samples: list[Sample] = []
    for number, row in enumerate(rows):
        if "problem" in row:
            cut = split_question(_text(row, "problem", name), split)
            context, question, target = cut.context, cut.query, _text(row, "expected_answer", name)
        else:
            context, question = (_text(row, f"stateful_aime_{part}", name) for part in ("context", "question"))
            target = _text(row, "answer", name)
            if split != "literal":
                cut = split_question(f"{context} {question}", split)
                context, question = cut.context, cut.query
        samples.append(
            Sample(
                id=f"{name}/{number}",
                context_id=f"{name}/{number}",
                cluster=f"{name}/{number}",
                context=context if context.strip() else NO_TEXT,
                question=question,
                target=target,
                answer="integer",
                stratum=stratum_of(context, question),
            )
        )
    return samples


def _read_socratic(name: str, rows: Rows, split: SplitMode) -> list[Sample]:  # noqa: ARG001 - its steps are its split
    samples: list[Sample] = []
    for number, row in enumerate(rows):
        several = row if "queries" in row else _of_steps(row, name)
        own = _own_samples(several, number, name)
        given = set(_NUMBERS.findall(several["context"]))
        targets = {sample.id: sample.target for sample in own}
        for sample in own:
            told = set(_NUMBERS.findall(sample.question)) - given
            if not told & {target for other, target in targets.items() if other != sample.id}:
                samples.append(sample)
    return samples


def _of_steps(row: Mapping[str, Any], name: str) -> dict[str, Any]:  # Any: JSON
    """Take the steps of a Socratic solution, "question ** answer <<2+3=5>>5", as queries.

    The last step asks in other words what the problem asks: the problem's own stands in its place.
    """
    cut = split_question(_text(row, "question", name), "sentence")
    steps = [line.partition(" ** ") for line in _text(row, "answer", name).split("\n") if " ** " in line]
    queries = [
        {"question": question.strip(), "answer": result[-1]}
        for question, _, answer in steps[:-1]
        if (result := re.findall(r"=([\d.]+)>>", answer))
    ]
    queries.append({"question": cut.query, "answer": _solution(str(row["answer"]))})
    return {"line": row["line"], "context": cut.context or NO_TEXT, "queries": queries}


_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


def _solution(answer: str) -> str:
    """What follows the `####` of a worked solution, else all of it."""
    return answer.rpartition("####")[2].strip()


def _text(row: Mapping[str, Any], key: str, source: object) -> str:  # Any: JSON
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise DatasetError(f"{source}, line {row['line']}: {key!r} is missing or no text. Write {OWN_FORMAT}.")
    return str(value)


def _read_own(path: str) -> _Part:
    place = Path(path).expanduser()
    if not place.is_file():
        raise DatasetError(
            f"There is no dataset and no file {path!r}. There are {', '.join(NAMES)}, "
            f"or the path of your own file with a line {OWN_FORMAT} for each context."
        )
    raw = _bytes_of(place)
    samples = [sample for number, row in enumerate(_rows(raw, place)) for sample in _own_samples(row, number, place)]
    known: dict[str, str] = {}
    for sample in samples:
        if known.setdefault(sample.context_id, sample.context) != sample.context:
            raise DatasetError(f"{place}: two contexts have the id {sample.context_id!r}. Give each its own, or none.")
    if len({sample.id for sample in samples}) < len(samples):
        raise DatasetError(f"{place}: two lines have the same id. Give each context its own, or none.")
    return _Part(
        name=place.stem,
        source=f"{place.name}, sha256 {hashlib.sha256(raw).hexdigest()}",
        licence="your own file",
        samples=samples,
    )


def _own_samples(row: Mapping[str, Any], number: int, source: object) -> list[Sample]:  # Any: JSON
    queries: Any = row.get("queries")  # Any: checked here
    if not isinstance(queries, list) or not queries:
        raise DatasetError(f"{source}, line {row['line']}: 'queries' is not a list of queries. Write {OWN_FORMAT}.")
    context_id = str(row.get("id", number))
    samples: list[Sample] = []
    for place, query in enumerate(cast("list[object]", queries)):
        if not isinstance(query, dict):
            raise DatasetError(
                f"{source}, line {row['line']}: query {place + 1} is not an object. "
                'Write {"question": "…", "answer": "…"}.'
            )
        asked: dict[str, Any] = {"line": f"{row['line']}, query {place + 1}"} | query  # Any: JSON
        target = _text(asked, "answer", source)
        samples.append(
            Sample(
                id=f"{context_id}/{place}",
                context_id=context_id,
                cluster=str(row.get("cluster", context_id)),
                context=_text(row, "context", source),
                question=_text(asked, "question", source),
                target=target,
                answer=kind_of(target),
                stratum=str(asked.get("stratum", row.get("stratum", ""))),
            )
        )
    return samples


def kind_of(target: str) -> AnswerKind:
    """How answers to a user's own query are compared: as numbers, as letters A to J, or as text."""
    if is_number(target):
        return "number"
    return "choice" if re.fullmatch(r"[A-J]", target.strip()) else "text"


def _limited(samples: Sequence[Sample], contexts: int | None, queries_per_context: int | None) -> list[Sample]:
    """Contexts round and round over the clusters, each with its queries together."""
    by_cluster: dict[str, dict[str, list[Sample]]] = defaultdict(dict)
    for sample in samples:
        by_cluster[sample.cluster].setdefault(sample.context_id, []).append(sample)
    rounds = [list(of_one.values()) for of_one in by_cluster.values()]
    longest = max(map(len, rounds), default=0)
    ordered = [of_one[turn] for turn in range(longest) for of_one in rounds if turn < len(of_one)]
    return [sample for asked in ordered[:contexts] for sample in asked[:queries_per_context]]


def _sha256_of(rows: Iterable[Mapping[str, Any]]) -> str:  # Any: JSON
    """The sha256 of rows, whatever their spacing and the order of their fields."""
    digest = hashlib.sha256()
    for row in rows:
        written = {key: value for key, value in row.items() if key != "line"}
        digest.update(json.dumps(written, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
