"""The measuring tools behind ``ehlo bench``, for use from Python. Times are in microseconds unless a name says more."""

from __future__ import annotations

from ehlo.bench._compare.compare import MODES, PARTS, ComparePlan, compare
from ehlo.bench._compare.peers import clients_here, servers_here
from ehlo.bench._contents import contents, parse_size
from ehlo.bench._core import run_core
from ehlo.bench._load.capacity import CapacityPlan, CapacityRun
from ehlo.bench._load.conditions import Condition, parse_condition
from ehlo.bench._load.histogram import MissingExtraError
from ehlo.bench._load.outcome import outcome
from ehlo.bench._load.plan import LoadPlan
from ehlo.bench._load.run import LoadRun, run_load
from ehlo.bench._load.tally import Tally
from ehlo.bench._report.page import page
from ehlo.bench._report.reports import read_report, side_by_side
from ehlo.bench._sink.faults import Fault, Limit, parse_fault, parse_limit
from ehlo.bench._sink.run import SinkRun
from ehlo.bench._sink.sink import BenchSink, SinkCounts

__all__ = [
    "MODES",
    "PARTS",
    "BenchSink",
    "CapacityPlan",
    "CapacityRun",
    "ComparePlan",
    "Condition",
    "Fault",
    "Limit",
    "LoadPlan",
    "LoadRun",
    "MissingExtraError",
    "SinkCounts",
    "SinkRun",
    "Tally",
    "clients_here",
    "compare",
    "contents",
    "outcome",
    "page",
    "parse_condition",
    "parse_fault",
    "parse_limit",
    "parse_size",
    "read_report",
    "run_core",
    "run_load",
    "servers_here",
    "side_by_side",
]
