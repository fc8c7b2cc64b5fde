"""The OpenAI-compatible proxy: a client that changes its base URL alone keeps working, byte for byte."""

from sleeptime.server.proxy.proxy import Proxy

__all__ = ["Proxy"]
