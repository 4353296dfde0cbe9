"""The measuring tools behind ``ehlo bench``, for use from Python. Times are in microseconds unless a name says more."""

from __future__ import annotations

from ehlo.bench._contents import contents, parse_size
from ehlo.bench._histogram import MissingExtraError
from ehlo.bench._outcome import outcome
from ehlo.bench._plan import LoadPlan
from ehlo.bench._tally import Tally
from ehlo.bench._workers import LoadRun, run_load

__all__ = ["LoadPlan", "LoadRun", "MissingExtraError", "Tally", "contents", "outcome", "parse_size", "run_load"]
