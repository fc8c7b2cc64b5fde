"""The seam to storage."""

from sleeptime.store.protocol import Relayed, Sleep, Store, Summary
from sleeptime.store.sql import SqlStore, open_store

__all__ = ["Relayed", "Sleep", "SqlStore", "Store", "Summary", "open_store"]
