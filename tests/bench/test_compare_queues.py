"""``ehlo bench compare --parts queue``."""

from __future__ import annotations

import pytest

from ehlo.bench import ComparePlan, compare
from ehlo.bench._compare.queues import relays_here


@pytest.mark.slow
@pytest.mark.timeout(900)  # three mail servers are started, which a busy machine does slowly
def test_queues_beside_each_other() -> None:
    pytest.importorskip("anyio")
    lines: list[str] = []
    plan = ComparePlan(parts=("queue",), sizes=(1024,), rounds=1, seconds=0.01, connections=2)
    report = compare(plan, lines.append)
    [cell] = report["cells"]
    assert sorted(cell["peers"]) == sorted(relays_here())
    assert len(lines) == len(relays_here())
    assert all(costs["median_rate"] > 0 for costs in cell["peers"].values())
    if "postfix" in cell["peers"]:
        assert set(cell["rate_ratios"]) == set(relays_here()) - {"postfix"}
