"""The dashboard: pages that show what was learnt, what it cost and what it saved. `routes()` are its routes."""

from sleeptime.server.dashboard.routes import routes

__all__ = ["routes"]
