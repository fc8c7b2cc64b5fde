"""Find the files a commit changed from its message alone, on replayed commits of real repositories."""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sleeptime.core.words import bm25
from sleeptime.repositories import localise
from sleeptime.repositories.checkout import Commit, Repository
from sleeptime.repositories.index import COMMITS, Index, Indexer
from sleeptime.repositories.localise import SIGNALS, SPREAD, Localiser
from sleeptime.repositories.parsing import is_code


@dataclass
class Case:
    commit: Commit
    parent: str
    truth: frozenset[str]


def graph(repository: Repository) -> dict[str, list[str]]:
    out = repository.git(["rev-list", "--parents", "HEAD"]).decode()
    return {line.split()[0]: line.split()[1:] for line in out.splitlines()}


def ancestors(parents: Mapping[str, Sequence[str]], commit: str) -> set[str]:
    found: set[str] = set()
    todo = [commit]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo.extend(parents.get(at, ()))
    return found


def cases(place: Path, many: int) -> Iterator[tuple[Case, Index]]:
    repository = Repository(place)
    parents = graph(repository)
    everything = repository.at("HEAD").history(limit=20_000)
    indexer = Indexer()
    found = 0
    for commit in everything:
        if found == many:
            return
        if len(parents[commit.id]) != 1:
            continue
        changed = {c.path for c in commit.changes if c.kind == "modified" and is_code(c.path)} | {
            c.was for c in commit.changes if c.kind == "renamed" and is_code(c.was)}
        if not 1 <= len(changed) <= 10:
            continue
        parent = parents[commit.id][0]
        known = ancestors(parents, parent)
        past = [c for c in everything if c.id in known][:COMMITS]
        index = indexer.index(repository.at(parent), past)
        truth = frozenset(changed & index.files.keys())
        if truth:
            found += 1
            yield Case(commit, parent, truth), index
