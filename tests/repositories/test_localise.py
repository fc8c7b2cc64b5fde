"""Files are ranked by what they are, and by what earlier commits said when they changed them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from repositories.conftest import Made
from sleeptime.core.words import bm25, words
from sleeptime.repositories.checkout import open_checkout
from sleeptime.repositories.index import Indexer
from sleeptime.repositories.localise import Localiser

Make = Callable[..., Made]


def shop(make: Make) -> Made:
    repo = make()
    repo.commit(
        "Begin",
        {
            "shop/basket.py": "class Basket:\n    def add_item(self): ...\n",
            "shop/invoice.py": "def render_invoice(): ...\n",
            "shop/rates.py": "TABLE = {}\n",
            "shop/store.py": "def open_store(): ...\n",
            "tests/test_invoice.py": "def test_it(): ...\n",
            "README.md": "invoice invoice invoice\n",
        },
    )
    for n in range(3):
        repo.commit(f"Correct the tax of Norway, again ({n})", {"shop/rates.py": f"TABLE = {{1: {n}}}\n"})
    for n in range(3):
        both: dict[str, str | bytes] = {
            "shop/basket.py": f"class Basket:\n    n = {n}\n",
            "shop/store.py": f"n = {n}\n",
        }
        repo.commit(f"Hold more in a basket ({n})", both)
    return repo


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("Rendering of invoices breaks", "shop/invoice.py"),
        ("The tax is wrong", "shop/rates.py"),  # only messages say so
        ("Crash in `open_store`", "shop/store.py"),
        ("tests/test_invoice.py fails", "tests/test_invoice.py"),
    ],
)
def test_a_file_is_found_by_its_words_its_name_and_its_past(make: Make, query: str, first: str) -> None:
    ranked = Localiser(Indexer().index(open_checkout(shop(make).place))).rank(query)

    assert ranked[0].path == first
    assert ranked[0].score == pytest.approx(sum(ranked[0].parts.values()))
    assert all(not file.path.endswith(".md") for file in ranked)


def test_what_changes_with_the_first_comes_before_what_does_not(make: Make) -> None:
    ranked = Localiser(Indexer().index(open_checkout(shop(make).place))).rank("Empty the basket")
    paths = [file.path for file in ranked]

    assert paths[0] == "shop/basket.py"
    assert paths.index("shop/store.py") < paths.index("shop/invoice.py")


@pytest.mark.parametrize("query", ["", "?!", "zzz qqq", "x" * 100_000, "ünï \0 \ud800"])
def test_any_query_ranks_all_files(make: Make, query: str) -> None:
    assert len(Localiser(Indexer().index(open_checkout(shop(make).place))).rank(query)) == 5


def test_a_repository_without_code_ranks_nothing(make: Make) -> None:
    repo = make()
    repo.commit("Words", {"README.md": "hello\n"})

    assert Localiser(Indexer().index(open_checkout(repo.place))).rank("hello") == ()


def test_forms_of_a_word_meet_and_identifiers_count_with_their_parts() -> None:
    assert set(words("parsing options")) <= set(words("parse_option"))
    assert set(words("parse HTTP")) <= set(words("HTTPParser"))
    assert words("the of and") == {}


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    texts = [words("tax rate"), words("tax rate " + "filler " * 50), words("rate")]
    scores = bm25({"tax": 1.0, "rat": 1.0}, texts)

    assert scores[0] > scores[1] > scores[2] > 0


def test_the_benchmark_replays_commits_without_their_future(make: Make) -> None:
    repo = shop(make)
    command = [sys.executable, "-m", "benchmarks.localise", "--repo", str(repo.place), "--commits", "50"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)

    row = run.stdout.splitlines()[2].split("|")
    assert row[3].strip() == "6"
    assert "verdict" in run.stdout
