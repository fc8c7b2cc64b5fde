"""Decide which files of a repository are not for a model to read: secrets, what programs made, what is not text.

    by name       secret_name · generated_name · binary_name       before anything is read
    by content    binary · private key · "generated, do not edit"  from the first bytes
    by size       too large

A name is judged whole: `credentials.json` holds secrets, `credentials.py` is code about them. What a project calls a
secret in its own way is not known here; `.gitignore` is read elsewhere.
"""

from __future__ import annotations

import re
from typing import Literal

LeftOut = Literal["secret", "generated", "binary", "too large", "ignored", "link", "submodule", "missing"]
"""Why a file is not read. `ignored`: by the project's `.gitignore`; a link or a submodule leads out of the tree;
`missing`: the repository is a partial copy without this object."""

MOST_BYTES = 1_000_000
"""A larger file is data, not something a developer reads."""
SNIFFED_BYTES = 8000

_MADE_FOLDERS = frozenset({
    "node_modules", "bower_components", "vendor", "_vendor", "third_party", "__pycache__", "site-packages",
    ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache", "dist",
})  # fmt: skip
_SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".azure", ".kube"})
_SECRET = re.compile(
    r"""
    (?!.*\.(?:example|sample|template|dist|pub)$)(?:
      \.env(?:\..*)? | .*\.env | \.envrc
    | .*\.(?:pem|key|p12|pfx|jks|keystore|kdbx?|ppk|pkcs12|tfvars|tfstate|ovpn|agekey)
    | id_(?:rsa|dsa|ecdsa|ed25519)(?:[._-].*)?
    | \.?(?:netrc|pgpass|pypirc|npmrc|htpasswd|git-credentials|dockercfg|vault[-_]pass(?:word)?)
    | \.?credentials?(?:\.(?:json|ya?ml|toml|ini|csv|xml|txt|db|enc))?
    | \.?secrets?(?:\.(?:json|ya?ml|toml|ini|txt|enc))?
    | (?:service[-_]account|client[-_]secret)[^/]*\.json
    | terraform\.tfstate.*
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GENERATED = re.compile(
    r""".*(?:\.min\.(?:js|css|mjs) | \.(?:js|css|mjs)\.map | \.bundle\.js | _pb2(?:_grpc)?\.pyi? | \.pb(?:\.gw)?\.go
      | \.pb\.(?:cc|h) | \.snap | \.designer\.cs | \.g\.dart)
    | (?:package-lock|npm-shrinkwrap|composer-lock)\.json
    | (?:yarn|poetry|uv|cargo|pdm|gemfile|composer|pipfile|flake)\.lock | pnpm-lock\.ya?ml | bun\.lockb? | go\.sum""",
    re.VERBOSE | re.IGNORECASE,
)
_BINARY = re.compile(
    r""".*\.(?:
      png|jpe?g|gif|bmp|ico|icns|webp|avif|tiff?|psd|pdf|ps|eps | mp[34]|ogg|wav|flac|avi|mov|mkv|webm
    | woff2?|ttf|otf|eot | zip|gz|bz2|xz|zst|7z|rar|tar|tgz|jar|war|whl|egg
    | so|dylib|dll|exe|a|o|obj|lib|class|wasm|py[co]
    | bin|dat|db|sqlite3?|parquet|np[yz]|pkl|pickle|h5|onnx|gguf|pth?|safetensors
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*[A-Za-z0-9+/=:]")
_GENERATED_MARK = re.compile(rb"@generated\b|Code generated .{1,80} DO NOT EDIT", re.IGNORECASE)
_MARKED_BYTES = 600


def by_name(path: str, size_bytes: int) -> LeftOut | None:
    """Say why the file *path* is left out, as far as its name and size tell, or None."""
    *folders, name = path.split("/")
    if _SECRET.fullmatch(name) or not _SECRET_FOLDERS.isdisjoint(folders):
        return "secret"
    if not _MADE_FOLDERS.isdisjoint(folders) or _GENERATED.fullmatch(name):
        return "generated"
    if _BINARY.fullmatch(name):
        return "binary"
    if size_bytes > MOST_BYTES:
        return "too large"
    return None


def by_content(data: bytes) -> LeftOut | None:
    """Say why a file that holds *data* is left out, or None. Text is what git takes for text, and is UTF-8."""
    start = data[:SNIFFED_BYTES]
    if b"\0" in start:
        return "binary"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not merely a character cut in two
            return "binary"
    if _PRIVATE_KEY.search(data):
        return "secret"
    if _GENERATED_MARK.search(start[:_MARKED_BYTES]):
        return "generated"
    return None
