# Each recipe is one command; see CONTRIBUTING.md.

setup:
    python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[dev]'

test *arguments:
    .venv/bin/pytest {{ arguments }}

check:
    .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports && .venv/bin/pyright

format:
    .venv/bin/ruff check --fix . ; .venv/bin/ruff format .

demo *arguments:
    .venv/bin/sleeptime demo {{ arguments }}

# The table of the log: 500 held-out contexts.
table:
    .venv/bin/sleeptime demo --contexts 500 --json

# The tables of benchmarks/README.md.
simulate *arguments:
    .venv/bin/python -m benchmarks.simulate {{ arguments }}

# Needs PyTorch: .venv/bin/pip install torch
train *arguments:
    .venv/bin/python -m training.train {{ arguments }}

constraints:
    .venv/bin/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate pyproject.toml -o constraints.txt
