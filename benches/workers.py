"""Two workers on two processors: how many times the messages of one?

    python benches/workers.py [--rounds 5] [--seconds 2] [--loop uvloop]

A server and its load share one processor, and so they do on the second one. So a message costs the same work in every
row, and the rate tells how well that work doubles:

- one worker, and one load, on the first processor: the reference;
- two workers that share a port (SO_REUSEPORT), and two loads. The system spreads the connections, so half of them
  cross from one processor to the other;
- two programs with a port each, and two loads: nothing of ours is shared. What is missing from 2 is the machine's;
- a loop of arithmetic on one processor and on both: nothing at all is shared but the processor's own parts.

Each figure is the median of the ratios within a round, with the smallest and the largest in parentheses. It needs two
processors, Linux, and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import ehlo
from ehlo.bench._compare.children import bound

MODES = {
    "lock-step": ("--no-pipelining",),
    "pipelined": ("--depth", "2"),
    "a connection each": ("--no-pipelining", "--messages-per-connection", "1"),
}
CONNECTIONS = 40
ARITHMETIC = "from time import perf_counter as now; end = now() + {}; n = 0\nwhile now() < end: n += 1\nprint(n)"


def serve(loop: str, port: int) -> None:
    """A worker: it says its port, and serves until it is ended."""

    async def main() -> None:
        adapter = importlib.import_module("ehlo.asyncio")
        config = ehlo.ServerConfig("mx.example.org", content="discard")
        async with await adapter.serve(ehlo.Handler(), port=port, config=config, reuse_port=True) as server:
            print(server.port, flush=True)
            await server.serve_forever()

    runner = asyncio if loop == "asyncio" else importlib.import_module("uvloop")
    runner.run(main())


@contextlib.contextmanager
def worker(loop: str, processor: int, port: int = 0) -> Iterator[int]:
    """The port of a worker on this processor."""
    command = [sys.executable, __file__, "--serve", str(port), "--loop", loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=bound({processor})) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def rates(ports: list[int], mode: str, seconds: float) -> float:
    """Messages a second, in all, of loads that run at once: the first on the first processor, and so on."""

    def load(place: tuple[int, int]) -> float:
        processor, port = place
        command = [sys.executable, "-m", "ehlo", "bench", "load", f"127.0.0.1:{port}", "--json", "-"]
        command += ["--no-phases", "-c", str(CONNECTIONS), "-s", "1024", "-d", str(seconds), *MODES[mode]]
        done = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=bound({processor}))
        return float(json.loads(done.stdout)["rate"]["messages"])

    with ThreadPoolExecutor() as pool:
        return sum(pool.map(load, enumerate(ports)))


def arithmetic(processors: int, seconds: float) -> float:
    """Steps of a loop a second, on so many processors at once."""
    command = [sys.executable, "-c", ARITHMETIC.format(seconds)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=bound({processor}))
        for processor in range(processors)
    ]
    return sum(int(process.communicate()[0]) for process in running) / seconds


def ratios(loop: str, mode: str, seconds: float) -> dict[str, float]:
    """One round."""
    with worker(loop, 0) as port:
        one = rates([port], mode, seconds)
        with worker(loop, 1, port):
            shared = rates([port, port], mode, seconds)
        with worker(loop, 1) as other:
            apart = rates([port, other], mode, seconds)
    return {"share a port": shared / one, "a port each": apart / one}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.loop, options.serve)
        return 0
    if len(os.sched_getaffinity(0)) < 2:
        print("there is one processor here: nothing is measured")
        return 0
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for mode in MODES:
            for name, ratio in ratios(options.loop, mode, options.seconds).items():
                found.setdefault(f"{mode}, two workers, {name}", []).append(ratio)
        found.setdefault("arithmetic", []).append(arithmetic(2, options.seconds) / arithmetic(1, options.seconds))
    for name, figures in found.items():
        print(f"{name:45} {statistics.median(figures):5.2f} ({min(figures):.2f} to {max(figures):.2f}) times one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
