"""The seam to storage."""

from sleeptime.store.protocol import Sleep, Store, Summary
from sleeptime.store.sql import SqlStore, open_store

__all__ = ["Sleep", "SqlStore", "Store", "Summary", "open_store"]
