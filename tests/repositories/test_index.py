"""The index says what is where, from the files and the history alone, and parses nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from repositories.conftest import Made
from sleeptime.repositories.checkout import Repository, open_checkout
from sleeptime.repositories.index import Index, Indexer, is_test
from sleeptime.repositories.parsing import parse

Make = Callable[..., Made]


def indexed(repo: Made) -> Index:
    return Indexer().index(open_checkout(repo.place))


@pytest.mark.parametrize(
    ("path", "text", "symbols", "imports"),
    [
        (
            "a.py",
            "import os\nfrom .b import c as d, e\nLIMIT = 3\nclass A(B):\n  async def run(self):\n    def go(): ...\n",
            [("LIMIT", "value", 3), ("A", "class", 4), ("A.run", "method", 5), ("run.go", "function", 6)],
            ["os", ".b", ".b.c", ".b.e"],
        ),
        (
            "a.js",
            "const f = require('fs')\nimport x from './x'\nclass A { run(){} }\nlet f = () => 1\ne.go = function(){}\n",
            [("A", "class", 3), ("A.run", "method", 3), ("f", "function", 4), ("go", "function", 5)],
            ["fs", "./x"],
        ),
        (
            "a.ts",
            "export * from './y'\ninterface I { a: number }\ntype T = I\nenum E { X }\nabstract class C {}\n",
            [("I", "interface", 2), ("T", "type", 3), ("E", "enum", 4), ("C", "class", 5)],
            ["./y"],
        ),
        (
            "a.go",
            'package a\nimport (\n "fmt"\n b "m/b"\n)\ntype T struct{}\nfunc (t T) Run() {}\nfunc Go() {}\n',
            [("T", "type", 6), ("Run", "method", 7), ("Go", "function", 8)],
            ["fmt", "m/b"],
        ),
        (
            "a.rs",
            "mod b;\nuse crate::c::{D, e::F};\nstruct S;\nimpl S {\n    fn run() {}\n}\n",
            [("S", "struct", 3), ("S", "impl", 4), ("S.run", "method", 5)],
            ["self::b", "crate::c::D", "crate::c::e"],
        ),
        (
            "A.java",
            "import a.b.C;\nclass A {\n  A() {}\n  void run() {}\n}\n",
            [("A", "class", 2), ("A.A", "method", 3), ("A.run", "method", 4)],
            ["a.b.C"],
        ),
        ("a.rb", "class A\n  def run\n  end\nend\n", [("A", "class", 1), ("run", "def", 2)], []),
        ("a.c", '#include "b.h"\nstruct s {};\n', [("s", "struct", 2)], ["b.h"]),
    ],
)
def test_each_language_tells_its_symbols_and_imports(
    path: str, text: str, symbols: list[tuple[str, str, int]], imports: list[str]
) -> None:
    parsed = parse(path, text.encode())

    assert [(symbol.qualified, symbol.kind, symbol.first) for symbol in parsed.symbols] == symbols
    assert list(parsed.imports) == imports


@pytest.mark.parametrize(
    ("path", "text", "purpose"),
    [
        ("a.py", '#!/usr/bin/env python\n# Copyright X\n"""Count the sheep.\n\nMore."""\n', "Count the sheep."),
        (
            "a.go",
            "// Copyright 2020\n// Use is governed by a licence\n\n// Package a counts sheep.\npackage a\n",
            "Package a counts sheep.",
        ),
        ("a.js", "'use strict'\n/*!\n * Counting of sheep\n */\n", "Counting of sheep"),
        ("a.md", "<img>\n\n# Sheep and how to count them\n", "Sheep and how to count them"),
        ("a.py", "import os\n# not the purpose\n", ""),
    ],
)
def test_the_purpose_is_the_first_line_that_says_what_a_file_is_for(path: str, text: str, purpose: str) -> None:
    assert parse(path, text.encode()).purpose == purpose


@pytest.mark.parametrize("path", ["a.py", "a.js", "a.ts", "a.go", "a.rs", "A.java", "a.rb"])
@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe(((((", b"(" * 50_000, b"def " * 10_000, "class Ü:\n  pass\n".encode()]
)
def test_what_is_no_code_is_read_all_the_same(path: str, data: bytes) -> None:
    assert parse(path, data).language


def test_imports_lead_to_files_of_the_repository(make: Make) -> None:
    repo = make()
    repo.commit(
        "Many languages",
        {
            "src/pkg/__init__.py": "from pkg.core import run\n",
            "src/pkg/core.py": "from . import helpers\nfrom .sub.deep import x\nimport json\n",
            "src/pkg/helpers.py": "",
            "src/pkg/sub/deep.py": "from ..core import run\n",
            "web/app.ts": "import { a } from './lib'\nimport b from './made.js'\nimport 'react'\n",
            "web/lib/index.ts": "",
            "web/made.ts": "",
            "go.mod": "module example.org/m\n\ngo 1.22\n",
            "main.go": 'package main\nimport "example.org/m/store"\n',
            "store/store.go": "package store\n",
            "crate/src/main.rs": "mod args;\nuse crate::args::Args;\n",
            "crate/src/args.rs": "use super::other;\n",
            "java/src/org/a/B.java": "package org.a;\nimport org.a.c.D;\nclass B {}\n",
            "java/src/org/a/c/D.java": "package org.a.c;\nclass D {}\n",
        },
    )
    index = indexed(repo)

    assert index.imports("src/pkg/__init__.py") == ("src/pkg/core.py",)
    assert index.imports("src/pkg/core.py") == ("src/pkg/helpers.py", "src/pkg/sub/deep.py")
    assert index.imports("src/pkg/sub/deep.py") == ("src/pkg/core.py",)
    assert index.imports("web/app.ts") == ("web/lib/index.ts", "web/made.ts")
    assert index.imports("main.go") == ("store/",)
    assert index.imports("crate/src/main.rs") == ("crate/src/args.rs",)
    assert index.imports("java/src/org/a/B.java") == ("java/src/org/a/c/D.java",)
    assert set(index.importers("src/pkg/core.py")) == {"src/pkg/__init__.py", "src/pkg/sub/deep.py"}


def test_tests_are_found_by_name_and_by_what_they_import(make: Make) -> None:
    repo = make()
    repo.commit(
        "Tests",
        {
            "src/parser.py": "",
            "src/lexer.py": "",
            "tests/test_parser.py": "",
            "tests/test_everything.py": "import lexer\n",
            "web/view.ts": "",
            "web/view.spec.ts": "",
            "store.go": "package store\n",
            "store_test.go": "package store\n",
        },
    )
    index = indexed(repo)

    assert index.tests("src/parser.py") == ("tests/test_parser.py",)
    assert index.tests("src/lexer.py") == ("tests/test_everything.py",)
    assert index.tests("web/view.ts") == ("web/view.spec.ts",)
    assert index.tests("store.go") == ("store_test.go",)
    assert index.tests("tests/test_parser.py") == ()
    assert not is_test("src/contest.py")
    assert not is_test("src/latest.py")


def test_what_changes_together_is_counted_through_renames(make: Make) -> None:
    repo = make()
    for n in range(4):
        repo.commit(f"Both {n}", {"a.py": f"a = {n}\nlong = 1\nlonger = 2\n", "b.py": f"b = {n}\n"})
    repo.git("mv", "a.py", "z.py")
    repo.commit("Rename")
    repo.commit("Alone", {"b.py": "b = 9\n"})
    history = indexed(repo).history

    (companion,) = history.companions("z.py")
    assert (companion.path, companion.times) == ("b.py", 4)
    assert companion.share == pytest.approx(4 / 5, abs=0.01)
    assert history.counts == {"z.py": 5, "b.py": 5}
    assert "a.py" not in history.weights


def test_what_is_told_of_a_files_companions_stays_until_the_file_changes(make: Make) -> None:
    repo = make()
    for n in range(4):
        repo.commit(f"Both {n}", {"a.py": f"a = {n}\n", "b.py": f"b = {n}\n", f"c{n % 2}.py": f"c = {n}\n"})
    before = indexed(repo).history.together("a.py")
    for n in range(10):
        repo.commit(f"Elsewhere {n}", {"d.py": f"d = {n}\n", "c0.py": f"c = {n + 9}\n"})

    assert indexed(repo).history.together("a.py") == pytest.approx(before)


def test_the_next_commit_parses_only_what_changed(make: Make) -> None:
    repo = make()
    first = repo.commit("Many", {f"m{n}.py": f"x{n} = {n}\n" for n in range(30)})
    second = repo.commit("One", {"m7.py": "x7 = 70\n"})
    repository, indexer = Repository(repo.place), Indexer()

    indexer.index(repository.at(first))
    assert indexer.parses == 30
    index = indexer.index(repository.at(second))
    assert indexer.parses == 31
    assert index.files["m7.py"].parsed.words["70"] == 1


def test_a_commit_that_is_not_an_ancestor_tells_nothing(make: Make) -> None:
    repo = make()
    first = repo.commit("Early", {"a.py": "a = 1\n"})
    repo.commit("Later", {"a.py": "a = 2\n", "b.py": "b = 2\n"})

    index = Indexer().index(Repository(repo.place).at(first))
    assert [commit.title for commit in index.history.commits] == ["Early"]
    assert list(index.files) == ["a.py"]
