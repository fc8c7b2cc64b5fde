"""What a file says of itself: its language, what it is for, its symbols, what it imports, its words.

    parse(path, data) → Parsed

Python, JavaScript, TypeScript, Go, Rust and Java are read by tree-sitter; other languages by a line that looks like a
definition. A file that tree-sitter does not finish in time is read so, too. The same bytes in the same language always
give the same, so a caller keeps what was parsed by the hash of a blob.

This file does not know what other files there are; `index` resolves what is imported.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser, Point, Query, QueryCursor, Tree

from sleeptime.core.words import words

PARSE_TIMEOUT_S = 2.0
MOST_SYMBOLS = 400
MOST_IMPORTS = 200
MOST_PARSED_BYTES = 400_000

LANGUAGES = {
    "py": "python", "pyi": "python", "js": "javascript", "mjs": "javascript", "cjs": "javascript", "jsx": "javascript",
    "ts": "typescript", "mts": "typescript", "cts": "typescript", "tsx": "tsx",
    "go": "go", "rs": "rust", "java": "java",
    "c": "c", "h": "c", "cc": "c++", "cpp": "c++", "cxx": "c++", "hpp": "c++", "cs": "c#", "rb": "ruby", "php": "php",
    "kt": "kotlin", "kts": "kotlin", "swift": "swift", "scala": "scala", "sh": "shell", "bash": "shell", "zsh": "shell",
    "fish": "shell", "lua": "lua", "pl": "perl", "pm": "perl", "r": "r", "jl": "julia", "ex": "elixir", "exs": "elixir",
    "erl": "erlang", "hs": "haskell", "ml": "ocaml", "clj": "clojure", "dart": "dart", "zig": "zig", "nim": "nim",
    "sql": "sql", "vue": "vue", "svelte": "svelte", "scm": "scheme", "ps1": "powershell", "pyx": "python",
    "m": "objective-c",
}  # fmt: skip
"""Code by its suffix. What has none of these is prose or settings."""
PROSE = {"md": "markdown", "rst": "rst", "txt": "text", "adoc": "asciidoc"}
GO_MODULE = "go.mod"

_FUNCTIONS_OF_JAVASCRIPT = """
(function_declaration name: (_) @name) @function
(generator_function_declaration name: (_) @name) @function
(class_declaration name: (_) @name) @class
(method_definition name: (_) @name) @method
(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression)]) @function
(assignment_expression left: (member_expression property: (property_identifier) @name)
  right: [(function_expression) (arrow_function)]) @function
(import_statement source: (string) @import)
(export_statement source: (string) @import)
(call_expression function: (identifier) @called arguments: (arguments . (string) @import) (#eq? @called "require"))
"""
_TYPES_OF_TYPESCRIPT = """
(abstract_class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @interface
(type_alias_declaration name: (_) @name) @type
(enum_declaration name: (_) @name) @enum
"""
_GRAMMARS: dict[str, tuple[Callable[[], object], str]] = {
    "python": (
        tree_sitter_python.language,
        """
        (class_definition name: (identifier) @name) @class
        (function_definition name: (identifier) @name) @function
        (module (expression_statement (assignment left: (identifier) @name)) @value)
        (import_statement) @import
        (import_from_statement) @import
        """,
    ),
    "javascript": (tree_sitter_javascript.language, _FUNCTIONS_OF_JAVASCRIPT),
    "typescript": (tree_sitter_typescript.language_typescript, _FUNCTIONS_OF_JAVASCRIPT + _TYPES_OF_TYPESCRIPT),
    "tsx": (tree_sitter_typescript.language_tsx, _FUNCTIONS_OF_JAVASCRIPT + _TYPES_OF_TYPESCRIPT),
    "go": (
        tree_sitter_go.language,
        """
        (function_declaration name: (identifier) @name) @function
        (method_declaration name: (field_identifier) @name) @method
        (type_spec name: (type_identifier) @name) @type
        (import_spec path: (interpreted_string_literal) @import)
        """,
    ),
    "rust": (
        tree_sitter_rust.language,
        """
        (function_item name: (identifier) @name) @function
        (struct_item name: (type_identifier) @name) @struct
        (enum_item name: (type_identifier) @name) @enum
        (trait_item name: (type_identifier) @name) @trait
        (type_item name: (type_identifier) @name) @type
        (macro_definition name: (identifier) @name) @macro
        (impl_item type: (_) @name) @impl
        (mod_item name: (identifier) @module !body)
        (use_declaration argument: (_) @import)
        """,
    ),
    "java": (
        tree_sitter_java.language,
        """
        (class_declaration name: (identifier) @name) @class
        (interface_declaration name: (identifier) @name) @interface
        (enum_declaration name: (identifier) @name) @enum
        (record_declaration name: (identifier) @name) @record
        (method_declaration name: (identifier) @name) @method
        (constructor_declaration name: (identifier) @name) @method
        (import_declaration (scoped_identifier) @import)
        """,
    ),
}
_DEFINITION = re.compile(
    r"^[ \t]{0,40}(?:(?:export|public|private|protected|static|async|pub|local|abstract|final) ){0,4}"
    r"(def|class|func|fun|fn|function|sub|module|interface|struct|enum|trait|defmodule|defp|object|create table)"
    r"[ \t]{1,8}([A-Za-z_][\w.?!]{0,80})",
    re.MULTILINE | re.IGNORECASE,
)
_INCLUDE = re.compile(r'^[ \t]{0,8}#[ \t]{0,8}include[ \t]{1,8}"([^"\n]{1,200})"', re.MULTILINE)
_MODULE = re.compile(r"^module[ \t]+(\S{1,200})", re.MULTILINE)
_FROM_IMPORT = re.compile(r"from\s+(\.*[\w.]*)\s+import\s+(.*)", re.DOTALL)
_RUST_PART = re.compile(r"(?:^|,)\s*(\w+)")
_COMMENT = re.compile(r"^\s*(?://[/!]?|#+(?!!)|/\*\*?|\*|--|;+|[rRuU]?\"\"\"|[rRuU]?'''|<!--)\s*")
_NOT_A_PURPOSE = re.compile(
    r"copyright|licen[cs]e|governed by|redistribution|permission is|spdx|all rights"
    r"|coding[:=]|eslint|jshint|vim:|-\*-|pragma|noqa|pylint|type: ignore|build |use strict|@|^\w+:\s|[<>`{}]|https?://",
    re.IGNORECASE,
)
_MOST_OF_A_PURPOSE = 120
_LINES_FOR_PURPOSE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """Something a file defines, in lines `first` to `last`; `parent` is the class or function around it."""

    name: str
    kind: str
    first: int
    last: int
    parent: str = ""

    @property
    def qualified(self) -> str:
        return f"{self.parent}.{self.name}" if self.parent else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What the content of a file says. `imports` are as written; `words` counts all of it."""

    language: str
    lines: int
    purpose: str
    symbols: tuple[Symbol, ...]
    imports: tuple[str, ...]
    words: Counter[str]
    length: int

    @property
    def is_code(self) -> bool:
        return self.language in _CODE


_CODE = frozenset(LANGUAGES.values())


def language(path: str) -> str:
    """The language of the file *path*, by its suffix; `""` where it is none that is known."""
    name = path.rpartition("/")[2]
    if name == "go.mod":
        return GO_MODULE
    suffix = name.rpartition(".")[2].lower()
    return LANGUAGES.get(suffix) or PROSE.get(suffix, "")


def is_code(path: str) -> bool:
    """Whether *path* is code by its suffix."""
    return language(path) in _CODE


def parse(path: str, data: bytes) -> Parsed:
    """Read the file *path* that holds *data*."""
    name = language(path)
    text = data.decode(errors="replace")
    tree = _tree(name, data) if name in _GRAMMARS and len(data) <= MOST_PARSED_BYTES else None
    symbols, imports = _structure(name, tree.root_node) if tree else _guessed(name, text)
    counted = words(text)
    return Parsed(
        language=name,
        lines=text.count("\n") + (not text.endswith("\n") and bool(text)),
        purpose=_purpose(name, text),
        symbols=tuple(symbols[:MOST_SYMBOLS]),
        imports=tuple(dict.fromkeys(imports))[:MOST_IMPORTS],
        words=counted,
        length=counted.total(),
    )


@lru_cache
def _grammar(name: str) -> tuple[Language, Query]:
    language_of, query = _GRAMMARS[name]
    grammar = Language(language_of())
    return grammar, Query(grammar, query)


def _tree(name: str, data: bytes) -> Tree | None:
    """Parse, or give None where it takes too long."""
    grammar, _ = _grammar(name)
    until = time.monotonic() + PARSE_TIMEOUT_S

    def part(offset: int, _: Point) -> bytes:
        return data[offset : offset + 65536]

    def is_over(_: int, __: bool) -> bool:
        return time.monotonic() > until

    try:
        return Parser(grammar).parse(part, progress_callback=is_over)
    except ValueError:
        return None


def _structure(name: str, root: Node) -> tuple[list[Symbol], list[str]]:
    _, query = _grammar(name)
    found: list[tuple[Node, str, str]] = []
    imports: list[str] = []
    for _, captures in QueryCursor(query).matches(root):
        if "import" in captures:
            imports.extend(_imported(name, _text(captures["import"][0])))
        elif "module" in captures:
            imports.append(f"self::{_text(captures['module'][0])}")
        else:
            (kind,) = captures.keys() - {"name"}
            found.append((captures[kind][0], kind, _text(captures["name"][0])))
    return list(_nested(found)), imports


def _nested(found: list[tuple[Node, str, str]]) -> Iterator[Symbol]:
    """Name the symbol around each, in the order they stand."""
    around: list[tuple[int, str, str]] = []
    for node, kind, name in sorted(found, key=lambda item: (item[0].start_byte, -item[0].end_byte)):
        while around and around[-1][0] <= node.start_byte:
            around.pop()
        _, parent, what = around[-1] if around else (0, "", "")
        first, last = node.start_point[0] + 1, node.end_point[0] + 1
        is_method = kind == "function" and what in {"class", "impl", "trait"}
        yield Symbol(name=name, kind="method" if is_method else kind, first=first, last=last, parent=parent)
        if kind != "value":
            around.append((node.end_byte, name, kind))


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _imported(name: str, statement: str) -> Iterator[str]:
    """What a statement imports: modules, dotted or as a path."""
    if name == "python":
        found = _FROM_IMPORT.match(statement)
        if not found:
            yield from (part.split(" as ")[0].strip() for part in statement.removeprefix("import").split(","))
            return
        module = found[1]
        yield module
        joint = "" if module.endswith(".") else "."
        names = [part.split(" as ")[0].strip(" ()\n\t\\") for part in found[2].split(",")]
        yield from (f"{module}{joint}{part}" for part in names if part.isidentifier())
    elif name == "rust":
        stem, braced, inside = statement.partition("{")
        parts = _RUST_PART.findall(inside) if braced else [""]
        yield from (f"{stem}{part}".partition(" as ")[0].strip() for part in parts)
    else:
        yield statement.strip("\"'`")


def _guessed(name: str, text: str) -> tuple[list[Symbol], list[str]]:
    if name == GO_MODULE:
        return [], _MODULE.findall(text)[:1]
    if name in PROSE.values() or not name:
        return [], []
    symbols: list[Symbol] = []
    line, at = 1, 0
    for found in _DEFINITION.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        symbols.append(Symbol(name=found[2], kind=found[1].lower(), first=line, last=line))
    return symbols, _INCLUDE.findall(text) if name in {"c", "c++", "objective-c"} else []


def _purpose(name: str, text: str) -> str:
    """The first line that says what the file is for: of a comment, a docstring or a heading."""
    inside = False
    for line in text.split("\n", _LINES_FOR_PURPOSE)[:_LINES_FOR_PURPOSE]:
        said = line.strip()
        if name in PROSE.values():
            said = said.lstrip("#=-~*<> ")
        else:
            opened = _COMMENT.match(line)
            if not opened and not inside:
                if said and not said.startswith(("package ", "from __future__", "#!", "'use", '"use')):
                    return ""
                continue
            said = line[opened.end() :] if opened else said
            inside = inside or line.count('"""') % 2 == 1 or line.count("'''") % 2 == 1 or "/*" in line
            said = said.split('"""')[0].split("'''")[0].split("*/")[0].strip(" */#-=")
        if sum(map(str.isalpha, said)) > 5 and not _NOT_A_PURPOSE.search(said):
            return said[:_MOST_OF_A_PURPOSE]
    return ""
