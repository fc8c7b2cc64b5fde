"""What the server did: a line in the log for each request, and numbers for Prometheus.

    Observed(app)   an id for each request, its route, status and time; never its query, its text or a key
    /metrics        requests and latencies; tokens, money and jobs of the tenants that are open; what parts count

Numbers of tenants are for whoever runs the server: where keys exist, /metrics asks for an admin key. Tokens and money
are read from the ledger when they are asked for, so that they are exact and survive a restart.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Histogram, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sleeptime.core.ledger import Totals
from sleeptime.engine import Engine
from sleeptime.server import failures
from sleeptime.server.tenants import Tenants

REQUEST_ID = b"x-request-id"
IN_FLIGHT = "in_flight"
UNROUTED = "(none)"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger("sleeptime.server")

Counts = Callable[[], Mapping[str, float]]
"""What a part has counted, by name."""


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, tenants: Tenants, counts: Counts = dict) -> None:
        self._tenants, self._counts = tenants, counts
        self._registry = CollectorRegistry()
        self._requests = CounterMetric(
            "sleeptime_requests",
            "Requests, by route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sleeptime_request_seconds",
            "Time until a reply was complete.",
            ["method", "route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    async def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        registry = CollectorRegistry()
        found = [*await self._of_tenants(), *_of_parts(self._counts())]
        registry.register(_Found(found))
        return generate_latest(self._registry) + generate_latest(registry)

    async def _of_tenants(self) -> Sequence[Metric]:
        tokens = CounterMetricFamily("sleeptime_tokens", "Tokens in the ledger.", labels=["tenant", "phase", "kind"])
        money = CounterMetricFamily(
            "sleeptime_cost_usd", "Money in the ledger, as far as it is known.", labels=["tenant", "phase"]
        )
        calls = CounterMetricFamily("sleeptime_calls", "Model calls in the ledger.", labels=["tenant", "phase"])
        jobs = GaugeMetricFamily("sleeptime_jobs", "Jobs, by state.", labels=["tenant", "state"])
        for tenant, engine in self._tenants.opened.items():
            for (phase, kind), amount in _sums(await engine.store.totals()).items():
                if kind == "usd":
                    money.add_metric([tenant, phase], amount)
                elif kind == "calls":
                    calls.add_metric([tenant, phase], amount)
                else:
                    tokens.add_metric([tenant, phase, kind], amount)
            for state, count in (await _states(engine)).items():
                jobs.add_metric([tenant, state], count)
        return [tokens, money, calls, jobs]


async def _states(engine: Engine) -> Mapping[str, int]:
    return Counter(job.state for job in await engine.jobs())


def _sums(totals: Sequence[Totals]) -> Mapping[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for each in totals:
        for kind, amount in (
            ("input", each.usage.input_tokens),
            ("cached_input", each.usage.cached_input_tokens),
            ("output", each.usage.output_tokens),
            ("reasoning", each.usage.reasoning_tokens),
            ("usd", each.cost_usd or 0.0),
            ("calls", each.calls),
        ):
            key = (each.phase.value, kind)
            sums[key] = sums.get(key, 0) + amount
    return sums


def _of_parts(counts: Mapping[str, float]) -> Sequence[Metric]:
    if not counts:
        return []
    family = CounterMetricFamily("sleeptime_proxy", "What the proxy counted.", labels=["what"])
    for what, count in counts.items():
        if what != IN_FLIGHT:
            family.add_metric([what], count)
    in_flight = GaugeMetricFamily("sleeptime_proxy_in_flight", "Requests that the proxy is carrying.")
    in_flight.add_metric([], counts.get(IN_FLIGHT, 0))
    return [family, in_flight]


class _Found:
    """Metrics that were read already, as a registry collects them."""

    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found


class Observed:
    """Middleware around all others: it gives each request an id, counts it, and writes its line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = id_ = _id_of(scope)
        began_s, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not any(name.lower() == REQUEST_ID for name, _ in message["headers"]):
                    message["headers"] = [*message["headers"], (REQUEST_ID, id_.encode())]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001  # what nobody foresaw is told to nobody but the log
            _log_failure(error, id_)
            if status == 0:
                failed = failures.reply(500, "The server failed on this request; its log says how.")
                await failed(scope, receive, noted)
        finally:
            self._done(scope, id_, status, time.perf_counter() - began_s)

    def _done(self, scope: Scope, id_: str, status: int, seconds: float) -> None:
        route, method = _template(scope), scope["method"]
        self._metrics.seen(method if method in _KNOWN_METHODS else "other", route, status, seconds)
        told = {"action": "request", "request_id": id_, "method": method, "route": route, "status": status}
        more = {"seconds": round(seconds, 4), "tenant": scope["state"].get("tenant"), "key": scope["state"].get("key")}
        log.info("%s %s %s", method, route, status or "gone", extra={**told, **more})


def routes(metrics: Metrics) -> Sequence[Route]:
    """`/metrics`."""

    async def told(request: Request) -> Response:
        if not request.state.is_admin:
            return failures.reply(403, "Metrics are for an admin key: `sleeptime keys create --admin`.")
        return Response(await metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return [Route("/metrics", told, methods=["GET"])]


def set_up_logs(form: str) -> None:
    """Write logs to stderr, as text or as a JSON object a line. Libraries speak up from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.INFO)


class _Json(logging.Formatter):
    """One line of JSON for each record, with what it says besides its message."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key in _EXTRA and value is not None},
        }
        return json.dumps(told, default=str)


_EXTRA = frozenset({"action", "request_id", "method", "route", "status", "seconds", "tenant", "key", "trace"})


def _log_failure(error: Exception, id_: str) -> None:
    """Log where an error came from, and of which type. Its words are left out: they may hold what was asked."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    told = {"action": "request_failed", "request_id": id_, "trace": trace}
    log.error("A request failed with %s in %s", type(error).__name__, trace, extra=told)


def _id_of(scope: Scope) -> str:
    """The id that a request came with, if it is a plain one, or a new one."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
    return given.decode() if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex


def _template(scope: Scope) -> str:
    """The route as it was written, without what stands in it; so labels stay few and say nothing of anyone."""
    route: BaseRoute | None = scope.get("route")
    return str(getattr(route, "path", UNROUTED))
