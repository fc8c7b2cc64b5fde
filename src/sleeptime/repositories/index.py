"""The structural index of a repository at a commit: files, symbols, imports, tests, history.

    indexer = Indexer()
    index = indexer.index(checkout)
    index.imports("src/a.py")         files of the repository that it imports
    index.tests("src/a.py")           the tests that name or import it
    index.history.companions(…)       what changes with it

What was parsed is kept by the hash of a blob, so the index of the next commit parses what changed and nothing else.
Imports are resolved by the rules of each language as far as paths tell; what leads out of the repository, or to more
than a few files, is left unresolved. Nothing is run or imported.

This file does not know how an index is written as text (`telling`) or searched (`localise`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from posixpath import dirname, normpath

from sleeptime.repositories.checkout import Checkout, Commit, File
from sleeptime.repositories.history import History
from sleeptime.repositories.parsing import GO_MODULE, Parsed, language, parse

COMMITS = 5000
"""How far back history is read; older commits weigh next to nothing."""
MOST_RESOLVED = 8
MOST_TESTS = 6

_SUFFIXES_OF_JAVASCRIPT = (
    "", ".js", ".ts", ".tsx", ".jsx", ".mjs", ".cjs", ".d.ts", "/index.js", "/index.ts", "/index.tsx",
)  # fmt: skip
_TEST_FOLDERS = frozenset({"test", "tests", "testing", "__tests__", "spec", "specs", "e2e"})
_TEST_NAME = re.compile(r"(?:test_.+|.+_test|.+[.-](?:test|spec)|.+_spec|Test.+|.+Tests?|test|tests|conftest)")
_TEST_MARK = re.compile(r"^(?:test_|Test)|(?:_test|_tests|_spec|[.-]test|[.-]spec|Tests?)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """A file with what it says of itself."""

    file: File
    parsed: Parsed


class Index:
    """A repository at a commit."""

    def __init__(self, commit: str, files: Mapping[str, Indexed], history: History) -> None:
        self.commit, self.files, self.history = commit, files, history

    def imports(self, path: str) -> tuple[str, ...]:
        """The files of the repository that *path* imports, in the order it names them; a package of Go is a folder."""
        return self._imports[path]

    def importers(self, path: str) -> tuple[str, ...]:
        """The files that import *path*."""
        return self._importers.get(path, ())

    def tests(self, path: str) -> tuple[str, ...]:
        """The tests of *path*: first those with its name, then those that import it alone or with few others."""
        if is_test(path):
            return ()
        named = [test for test in self._tests_by_stem.get(_stem(path), ()) if _may_test(test, path)]
        importing = [
            other for other in self.importers(path) if is_test(other) and len(self._imports[other]) <= MOST_TESTS
        ]
        return tuple(dict.fromkeys([*named, *importing]))[:MOST_TESTS]

    @cached_property
    def _imports(self) -> dict[str, tuple[str, ...]]:
        resolver = _Resolver(self.files)
        return {path: resolver.resolved(path, entry.parsed) for path, entry in self.files.items()}

    @cached_property
    def _importers(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path, imported in self._imports.items():
            for other in imported:
                found[other].append(path)
        return {path: tuple(others) for path, others in found.items()}

    @cached_property
    def _tests_by_stem(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.files:
            if is_test(path) and language(path):
                found[_stem(path)].append(path)
        return {stem: tuple(paths) for stem, paths in found.items()}


class Indexer:
    """Makes indexes, and parses no blob twice."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], Parsed] = {}
        self.parses = 0

    def index(self, checkout: Checkout, commits: Iterable[Commit] | None = None) -> Index:
        """Index *checkout*; *commits* are its history, newest first, where it was read already."""
        files = checkout.files()
        new = [file for file in files if (file.blob, language(file.path)) not in self._parsed]
        for file, data in checkout.contents(new):
            self._parsed[file.blob, language(file.path)] = parse(file.path, data)
        self.parses += len(new)
        indexed = {file.path: Indexed(file=file, parsed=self._parsed[file.blob, language(file.path)]) for file in files}
        past = checkout.history(limit=COMMITS) if commits is None else tuple(commits)
        return Index(checkout.commit, indexed, History(past, indexed))


def is_test(path: str) -> bool:
    """Whether *path* is a test by its name or its folder."""
    *folders, name = path.split("/")
    return not _TEST_FOLDERS.isdisjoint(folders) or bool(_TEST_NAME.fullmatch(name.rpartition(".")[0] or name))


def _stem(path: str) -> str:
    """The name of a file without suffix and marks of a test: what a test and its subject share."""
    name = path.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return _TEST_MARK.sub("", stem).strip("_.-").lower()


def _may_test(test: str, path: str) -> bool:
    here, there = language(test), language(path)
    scripts = {"javascript", "typescript", "tsx"}
    return bool(there) and (here == there or {here, there} <= scripts)


class _Resolver:
    """Finds the files of a repository that an import names."""

    def __init__(self, files: Mapping[str, Indexed]) -> None:
        self._paths = frozenset(files)
        self._ends: dict[str, list[str]] = defaultdict(list)
        self._folders: dict[str, list[str]] = defaultdict(list)
        for path in sorted(files, key=lambda path: (path.count("/"), path)):
            self._folders[dirname(path)].append(path)
            bare = re.sub(r"(?:/__init__)?\.(?:pyi?|java)$", "", path)
            if bare != path:
                parts = bare.split("/")
                for at in range(len(parts)):
                    self._ends["/".join(parts[at:])].append(path)
        self._modules = {
            entry.parsed.imports[0]: dirname(path)
            for path, entry in files.items()
            if entry.parsed.language == GO_MODULE and entry.parsed.imports
        }

    def resolved(self, path: str, parsed: Parsed) -> tuple[str, ...]:
        rules = {
            "python": self._python, "java": self._java, "javascript": self._javascript, "typescript": self._javascript,
            "tsx": self._javascript, "go": self._go, "rust": self._rust, "c": self._include, "c++": self._include,
        }  # fmt: skip
        rule = rules.get(parsed.language)
        if rule is None:
            return ()
        found = [other for imported in parsed.imports for other in rule(path, imported) if other != path]
        return tuple(dict.fromkeys(found))

    def _python(self, path: str, module: str) -> Iterable[str]:
        dots = len(module) - len(module.lstrip("."))
        name = module[dots:].replace(".", "/")
        if dots:
            base = path
            for _ in range(dots):
                base = dirname(base)
            return self._first(f"{base}/{name}.py", f"{base}/{name}/__init__.py") if name else []
        return self._ending(name, path)

    def _java(self, path: str, module: str) -> Iterable[str]:
        return self._ending(module.replace(".", "/"), path) if "." in module else []

    def _ending(self, name: str, path: str) -> Iterable[str]:
        """The file whose path ends with *name*, the least deep; beside *path* where several are as deep."""
        found = [other for other in self._ends.get(name, []) if language(other) == language(path)]
        top = [other for other in found if other.count("/") == found[0].count("/")]
        beside = [other for other in top if other.partition("/")[0] == path.partition("/")[0]]
        return (beside or top)[:1] if len(top) <= MOST_RESOLVED else []

    def _javascript(self, path: str, module: str) -> Iterable[str]:
        if not module.startswith("."):
            return []
        base = normpath(f"{dirname(path)}/{module}").lstrip("/")
        base = "" if base == "." else base
        bare = base.removesuffix(".js")  # TypeScript writes the name of what it compiles to
        return self._first(*(f"{base}{end}" for end in _SUFFIXES_OF_JAVASCRIPT), f"{bare}.ts", f"{bare}.tsx")

    def _go(self, _: str, module: str) -> Iterable[str]:
        for name, root in self._modules.items():
            if module == name or module.startswith(f"{name}/"):
                folder = normpath(f"{root}/{module[len(name) :]}".replace("//", "/")).strip("/")
                folder = "" if folder == "." else folder
                if any(language(other) == "go" for other in self._folders.get(folder, [])):
                    return [f"{folder}/"]
        return []

    def _rust(self, path: str, module: str) -> Iterable[str]:
        first, *rest = module.split("::")
        name = path.rpartition("/")[2]
        inner = dirname(path) if name in {"mod.rs", "lib.rs", "main.rs"} else path.removesuffix(".rs")
        if first == "crate":
            before, source, _ = f"/{path}".rpartition("/src/")
            inner = f"{before}{source}".strip("/") if source else dirname(path)
        elif first == "super":
            inner = dirname(inner)
        elif first != "self":
            return []
        for end in range(len(rest), 0, -1):
            base = f"{inner}/{'/'.join(rest[:end])}".lstrip("/")
            found = self._first(f"{base}.rs", f"{base}/mod.rs")
            if found:
                return found
        return []

    def _include(self, path: str, name: str) -> Iterable[str]:
        return self._first(normpath(f"{dirname(path)}/{name}"), name, f"include/{name}", f"src/{name}")

    def _first(self, *paths: str) -> list[str]:
        """The first of *paths* that there is."""
        return [path for path in (each.lstrip("/") for each in paths) if path in self._paths][:1]
