"""`sleeptime serve`, `sleeptime mcp` and `sleeptime keys …`: parse, call, print.

Heavy modules are imported inside commands, so that `sleeptime --help` is quick.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sleeptime.core.keys import DEFAULT_TENANT, ApiKey
from sleeptime.core.wire import plain

if TYPE_CHECKING:  # the engine brings the database and model libraries, which --help does not need
    from sleeptime.store import Store

stderr = Console(stderr=True)
app = typer.Typer()
keys = typer.Typer(
    name="keys",
    help="Make, list and revoke the API keys of `sleeptime serve`.\n\n"
    "A key belongs to a tenant, whose contexts, ledger and jobs are a database of their own. Once a key was made, "
    "every request needs one. Only the hash of a key is kept: it is shown once.\n\n"
    "For example:\n\n"
    "  sleeptime keys create --name laptop\n\n"
    "  sleeptime keys create --tenant acme --name billing\n\n"
    "  sleeptime keys revoke k0123456789ab",
    no_args_is_help=True,
)
app.add_typer(keys, name="keys")

Database = Annotated[
    str | None,
    typer.Option("--database", help="Path or URL of the database.", envvar="SLEEPTIME_DATABASE", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="provider:model, URL#model, gguf:/path/file.gguf, or tiny; for answers."),
]


@app.command()
def serve(
    upstream: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible URL to stand in front of, such as https://api.openai.com/v1."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; else 127.0.0.1.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="The port; else 8321; 0 takes any.", min=0, max=65535, show_default=False)
    ] = None,
    model: Model = None,
    log_format: Annotated[str, typer.Option(help="text or json, a line for each request, on stderr.")] = "text",
    database: Database = None,
) -> None:
    """Serve contexts over HTTP, until stopped.

    /v1/contexts, /v1/jobs and /v1/ledger do what the command line does; /openapi.json describes them. With --upstream
    an application that changes only its base URL to http://127.0.0.1:8321/v1 keeps working. /healthz and /readyz tell
    how the server is, /metrics what it did.

    It listens on this machine alone, without a key, until one is made with `sleeptime keys create`; elsewhere it does
    not listen without one. Each key belongs to a tenant, and sees nothing of the others. Ctrl-C or SIGTERM lets
    replies under way end. Addresses and limits may stand in the section serve of sleeptime.toml.

    For example:

      sleeptime serve --model openai:gpt-5-mini

      sleeptime serve --upstream https://api.openai.com/v1

      curl http://127.0.0.1:8321/v1/contexts
    """
    if log_format not in ("text", "json"):
        raise typer.BadParameter("--log-format is text or json")

    async def work() -> None:
        # The server brings starlette and uvicorn, which no other command needs.
        from sleeptime.engine import Engine, database_in, home  # noqa: PLC0415  # as above
        from sleeptime.server import observing, serving  # noqa: PLC0415  # as above
        from sleeptime.server.tenants import Tenants  # noqa: PLC0415  # as above
        from sleeptime.settings import SETTINGS_FILE, load  # noqa: PLC0415  # as above

        observing.set_up_logs(log_format)
        said = {"host": host, "port": port, "upstream": upstream}
        settings = load(home(os.environ) / SETTINGS_FILE)
        settings = replace(
            settings,
            serve=replace(settings.serve, **{name: value for name, value in said.items() if value is not None}),
        )

        def open_engine(**where: Any) -> Any:  # Any: arguments of `Engine.open`, and what it gives
            return Engine.open(**where, model=model, worker=True)

        tenants = Tenants(database_in(os.environ, database), open_engine)
        try:
            await serving.check_address(tenants, settings.serve.host)
            found = serving.found(settings, upstream_key=os.environ.get("SLEEPTIME_UPSTREAM_KEY"))
            app = serving.application(
                tenants, settings.serve, parts=found.parts, pages=found.pages, counts=found.counts
            )
            await serving.serve(app, settings.serve, on_ready=_tell(settings.serve.host))
        finally:
            await tenants.aclose()

    _await(work)


def _tell(host: str) -> Callable[[int], None]:
    shown = f"[{host}]" if ":" in host else host
    return lambda port: _note(f"Listening on http://{shown}:{port}. Ctrl-C lets replies under way end.")


@app.command("mcp")
def serve_mcp(
    model: Model = None,
    database: Database = None,
) -> None:
    """Serve contexts to an agent over MCP, on stdin and stdout.

    Tools: add_context, ask, learned_context, sleep_now, ledger. `sleeptime serve` serves the same at /mcp.
    The protocol's library comes with the extra called mcp.

    For example, in the settings of an agent:

      {"mcpServers": {"sleeptime": {"command": "sleeptime", "args": ["mcp", "--model", "openai:gpt-5-mini"]}}}
    """

    async def work() -> None:
        # The protocol's library is an extra, and no other command needs it.
        from sleeptime.engine import Engine, database_in  # noqa: PLC0415  # as above
        from sleeptime.server.mcp import run_stdio  # noqa: PLC0415  # as above

        async with Engine.open(database=database_in(os.environ, database), model=model) as engine:
            await run_stdio(engine)

    _await(work)


@keys.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose data it opens; made when it is first used.")] = DEFAULT_TENANT,
    name: Annotated[str, typer.Option(help="A word to tell the key by.")] = "",
    is_admin: Annotated[bool, typer.Option("--admin", help="It may read the metrics of all tenants, too.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it: this once, for only its hash is kept.

    For example:

      export SLEEPTIME_KEY=$(sleeptime keys create --tenant acme --name billing)
    """

    async def work(store: Store) -> None:
        from sleeptime.server.access import new_key  # noqa: PLC0415  # the server's libraries

        secret, key = new_key(tenant=tenant, label=name, is_admin=is_admin)
        await store.add_key(key)
        if as_json:
            typer.echo(json.dumps({"key": secret, **_listed(key)}, indent=2, ensure_ascii=False))
            return
        typer.echo(secret)
        _note(f"{key.id} opens {tenant!r}. It is not shown again. From now on every request needs a key.")

    _with_store(work, database)


@keys.command("list")
def list_keys(database: Database = None, as_json: Json = False) -> None:
    """List the keys, without what is secret of them."""

    async def work(store: Store) -> None:
        made = [_listed(key) for key in await store.keys()]
        if as_json:
            typer.echo(json.dumps(made, indent=2, ensure_ascii=False))
            return
        if not made:
            _note("No keys: the server answers on this machine alone, without one.")
        for key in made:
            state = f"revoked {key['revoked_at']:.16}" if key["revoked_at"] else "valid"
            admin = "  admin" if key["is_admin"] else ""
            typer.echo(f"{key['id']}  {key['tenant']}  {key['label'] or '-'}  {key['created_at']:.16}  {state}{admin}")

    _with_store(work, database)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of a key, as `sleeptime keys list` shows it.", metavar="ID")],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Let a key open nothing any more; a running server knows after two seconds."""

    async def work(store: Store) -> None:
        key = await store.revoke_key(key_id, datetime.now(UTC))
        if as_json:
            typer.echo(json.dumps(_listed(key), indent=2, ensure_ascii=False))
        else:
            _note(f"Revoked {key.id} of {key.tenant!r}.")

    _with_store(work, database)


def _listed(key: ApiKey) -> dict[str, Any]:
    return {name: value for name, value in plain(key).items() if name != "digest"}


def _with_store(work: Callable[[Store], Coroutine[Any, Any, None]], database: str | None) -> None:
    async def whole() -> None:
        from sleeptime.engine import database_in  # noqa: PLC0415  # keeps --help quick
        from sleeptime.store import open_store  # noqa: PLC0415  # as above

        store = await open_store(database_in(os.environ, database))
        try:
            await work(store)
        finally:
            await store.aclose()

    _await(whole)


def _await(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        _note("Interrupted.")
        raise typer.Exit(1) from None


def _note(words: str) -> None:
    stderr.print(words, markup=False, highlight=False, soft_wrap=True)
