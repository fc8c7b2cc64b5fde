"""What Inspect finds of this package by its entry point: the models and the experiments."""

from sleeptime.evals.runs.bridge import ClosesModels, sleeptime_api
from sleeptime.evals.runs.tasks import e1, e2, e3, e4, e5, e6, e8

__all__ = ["ClosesModels", "e1", "e2", "e3", "e4", "e5", "e6", "e8", "sleeptime_api"]
