"""A real text, a real llama.cpp server behind HTTP, streaming: what the wire says is what the ledger says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xllamacpp

from fakes.random_gguf import write_random_gguf
from fakes.recording_proxy import Wire, tap

ROOT = Path(__file__).parents[1]
GSM8K = Path(os.environ.get("SLEEPTIME_DATA", ROOT)) / "gsm8k/multi_query_gsm8k_socratic.jsonl"


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(write_random_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf", window=8192))
    parameters.model_alias = {"random"}
    parameters.verbosity = -1
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.ui, parameters.warmup, parameters.fit_params, parameters.use_jinja = False, False, False, True
    parameters.n_ctx = 8192
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    with tap(server.listening_address) as wire:
        yield wire
    del server


def real_texts() -> list[str]:
    texts = [(ROOT / "CONTRIBUTING.md").read_text()]
    if GSM8K.exists():
        with GSM8K.open() as rows:
            texts.append(json.loads(next(rows))["context"])
    return texts


@pytest.mark.parametrize("text", real_texts(), ids=lambda text: text[:12])
def test_tokens_at_the_wire_are_tokens_in_the_ledger(wire: Wire, tmp_path: Path, text: str) -> None:
    file = tmp_path / "text.txt"
    file.write_text(text)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SLEEPTIME", "OPENAI"))}
    environ |= {"SLEEPTIME_HOME": str(tmp_path / "home"), "SLEEPTIME_MODEL": f"{wire.url}/v1#random"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "sleeptime.cli", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    seen = len(wire.usage), len(wire.requests)
    run("add", str(file))
    run("sleep", "text", "--max-tokens", "200", "--rounds", "3")
    run("ask", "text", "What is it about?", "--budget", "0", "--max-tokens", "40", "--sees", "context")
    run("ask", "text", "And then?", "--budget", "4", "--max-tokens", "40", "--sees", "context")
    usage, requests = wire.usage[seen[0] :], wire.requests[seen[1] :]
    calls = json.loads(run("ledger", "--calls", "100", "--json"))
    total = json.loads(run("ledger", "--json"))["total"]

    assert [request.get("stream", False) for request in requests][-2:] == [True, True]
    assert len(usage) >= 3
    in_ledger = [call["usage"] for call in calls if call["outcome"] == "ok"]
    assert [(u["input_tokens"], u["output_tokens"]) for u in in_ledger] == [
        (u["prompt_tokens"], u["completion_tokens"]) for u in usage
    ]
    assert [u["cached_input_tokens"] for u in in_ledger] == [
        (u.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for u in usage
    ]
    assert total["total_tokens"] == sum(u["prompt_tokens"] + u["completion_tokens"] for u in usage)
    assert total["sleep"]["output_tokens"] <= 200
