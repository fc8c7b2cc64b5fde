"""What Inspect finds of this package by its entry point: the models and the experiments."""

from sleeptime.evals.bridge import sleeptime_api
from sleeptime.evals.tasks import e1, e2, e3, e4, e5, e6, e8

__all__ = ["e1", "e2", "e3", "e4", "e5", "e6", "e8", "sleeptime_api"]
