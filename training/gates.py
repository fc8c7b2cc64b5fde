"""Measure the exported model through llama.cpp: `python -m training.gates`.

First the gates, which must hold before any effect means anything; then a rough version
of the effect itself. Contexts are fresh draws of the training side unless `--held-out`
is given; the seed is an argument.

This file knows nothing about training or about the library: it speaks the dialect alone.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import xllamacpp

from sleeptime.evals.data import chains
from sleeptime.evals.data.chains import ChainQuery, Sample

GATES = {
    "drill": 0.99,
    "notes_correct": 0.98,
    "notes_covered": 0.98,
    "read_value": 0.97,
    "chain_value": 0.95,
}
ROUNDS = 3
GATE_CONTEXTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model wrote, and how many tokens llama.cpp counted for it."""

    text: str
    tokens: int


class Tiny:
    """The exported model behind llama.cpp's own chat endpoint, one thread, greedy."""

    def __init__(self, path: Path) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = 2048
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        parameters.verbosity = 1
        self._server = xllamacpp.Server(parameters)

    def reply(self, content: str, *, limit: int = 250) -> Reply:
        """Answer one user message."""
        completion = self._server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": content}],
                "max_tokens": limit,
                "temperature": 0,
            }
        )
        text = completion["choices"][0]["message"]["content"] or ""
        return Reply(text=text, tokens=completion["usage"]["completion_tokens"])

    def ask(self, seen: str, query: ChainQuery, level: int) -> Reply:
        """Answer *query* at *level* from what is *seen*."""
        return self.reply(f"{seen}\n{query.question} /{level}")

    def sleep(self, context: str) -> tuple[list[str], int]:
        """Think until a round adds nothing; return the notes and the tokens spent."""
        notes: list[str] = []
        tokens = 0
        for _ in range(ROUNDS):
            reply = self.reply(f"{with_notes(context, notes)}\nsleep")
            tokens += reply.tokens
            known = {*context.split("\n"), *notes, "done", ""}
            news = [line for line in dict.fromkeys(reply.text.split("\n")) if line not in known]
            if not news:
                break
            notes += news
        return notes, tokens


def with_notes(context: str, notes: Sequence[str]) -> str:
    """Put notes behind a context."""
    return "\n".join([context, "notes:", *notes]) if notes else context


def gold_notes(sample: Sample) -> list[str]:
    """State every derived value."""
    state = chains.FAMILIES[sample.family].state
    return [state(q.name, q.value) for q in sample.quantities if q.source is not None]


class Tally:
    """Means under names."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Record *value*."""
        self._seen[name].append(float(value))

    def means(self) -> dict[str, float]:
        """Give the mean of each name."""
        return {name: round(sum(v) / len(v), 4) for name, v in sorted(self._seen.items())}


def measure_gates(model: Tiny, samples: Sequence[Sample], rng: Random) -> dict[str, float]:
    """Measure each skill apart, with correct notes where notes are needed."""
    tally = Tally()
    for sample in samples:
        family = chains.FAMILIES[sample.family]
        notes = gold_notes(sample)
        drill = {q.name: rng.randint(1, chains.FACE) for q in sample.quantities}
        alone = "\n".join(["notes:", *(family.state(n, v) for n, v in drill.items())])
        asked = rng.choice(sorted(drill))
        question = f"{alone}\n{family.ask('value', [asked])} /{rng.randrange(5)}"
        tally.add("drill", chains.score(model.reply(question).text, str(drill[asked])))
        wrong = list(notes)
        spoilt = rng.randrange(len(wrong))
        name = [q.name for q in sample.quantities if q.source is not None][spoilt]
        wrong[spoilt] = family.state(name, rng.randint(1, chains.FACE))
        everything = chains.all_queries(sample.family, sample.quantities, sample.watched)
        for query in [*rng.sample([q for q in everything if q.kind == "value"], 3), *sample.queries]:
            kind = "value" if query.kind == "value" else "pair"

            def right(seen: str, level: int, asked: ChainQuery = query) -> bool:
                return chains.score(model.ask(seen, asked, level).text, asked.answer)

            chained = right(sample.text, 4)
            tally.add(f"chain_{kind}", chained)
            tally.add(f"chain_depth_{query.depth:02d}", chained)
            tally.add(f"direct_{kind}_depth_{min(query.depth, 4)}", right(sample.text, 0))
            tally.add(f"read_{kind}", right(with_notes(sample.text, notes), 0))
            tally.add(f"check_{kind}", right(with_notes(sample.text, notes), 1))
            tally.add(f"distrust_{kind}", right(with_notes(sample.text, wrong), 4))
    return tally.means()


def measure_effect(model: Tiny, samples: Sequence[Sample]) -> dict[str, float]:
    """Answer the samples' own queries with and without the model's own notes."""
    tally = Tally()
    gains: list[tuple[float, float]] = []
    learned = [model.sleep(sample.text) for sample in samples]
    for index, (sample, (notes, spent)) in enumerate(zip(samples, learned, strict=True)):
        truth = set(gold_notes(sample))
        for note in notes:
            tally.add("notes_correct", note in truth)
        for note in truth:
            tally.add("notes_covered", note in notes)
        tally.add("sleep_tokens", spent)
        strange = learned[index - 1][0]
        for query in sample.queries:
            for level in range(5):
                for name, seen in (
                    ("without", sample.text),
                    ("with", with_notes(sample.text, notes)),
                ):
                    reply = model.ask(seen, query, level)
                    right = chains.score(reply.text, query.answer)
                    tally.add(f"{name}_{level}_accuracy", right)
                    tally.add(f"{name}_{level}_tokens", reply.tokens)
                    if level in (0, 4):
                        tally.add(f"{name}_{level}_accuracy_{query.kind}", right)
                    if level == 0 and name == "without":
                        direct = right
                    if level == 0 and name == "with":
                        gains.append((query.asking_probability, right - direct))
            reply = model.ask(with_notes(sample.text, strange), query, 0)
            tally.add("placebo_0_accuracy", chains.score(reply.text, query.answer))
    means = tally.means()
    gains.sort()
    for fifth in range(5):
        part = gains[fifth * len(gains) // 5 : (fifth + 1) * len(gains) // 5]
        means[f"gain_quintile_{fifth + 1}"] = round(sum(g for _, g in part) / len(part), 4)
    return means | headline(means)


def headline(means: dict[str, float]) -> dict[str, float]:
    """Compare tokens at equal accuracy: the cheapest level within 2 points of the best."""
    best = max(means[f"without_{level}_accuracy"] for level in range(5))

    def cheapest(name: str) -> float:
        enough = [
            means[f"{name}_{level}_tokens"] for level in range(5) if means[f"{name}_{level}_accuracy"] >= best - 0.02
        ]
        return min(enough, default=float("nan"))

    before, after, spent = cheapest("without"), cheapest("with"), means["sleep_tokens"]
    return {
        "token_ratio": round(before / after, 2),
        "cost_ratio_t10": round(10 * before / (10 * after + spent / 10), 2),
        "cost_ratio_t2": round(2 * before / (2 * after + spent / 10), 2),
        "gain_at_0": round(means["with_0_accuracy"] - means["without_0_accuracy"], 4),
    }


def main() -> None:
    """Read the command line, measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/sleeptime/data/tiny.gguf"))
    parser.add_argument("--contexts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", default="sheets", choices=sorted(chains.FAMILIES))
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    model = Tiny(arguments.model)
    samples = chains.draw(
        arguments.seed,
        contexts=arguments.contexts,
        family=arguments.family,
        held_out=arguments.held_out,
    )
    effect = measure_effect(model, samples)
    gates = measure_gates(model, samples[:GATE_CONTEXTS], Random(arguments.seed))
    measured = gates | effect
    passed = {name: measured[name] >= least for name, least in GATES.items()}
    print(json.dumps({"gates": gates, "effect": effect, "passed": passed}, indent=2))


if __name__ == "__main__":
    main()
