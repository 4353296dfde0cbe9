"""``ehlo bench load`` and ``ehlo bench capacity``: their arguments, and what is refused before anything is measured."""

from __future__ import annotations

import argparse
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ehlo._errors import EhloError
from ehlo.cli import _bench_text as text
from ehlo.cli._bench_arguments import (
    INTERRUPTED,
    add_outputs,
    check_outputs,
    condition,
    host_port,
    number,
    stopping,
    time,
    write_outputs,
)
from ehlo.cli._receive import UsageError, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ehlo.bench import LoadPlan, Tally

__all__ = ["add_capacity", "add_load"]


def add_load(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "load",
        help="put load on an SMTP or LMTP server, and print rates, latencies and errors",
        description="Put load on an SMTP or LMTP server. The exit status is 0 if every message was accepted for every "
        "recipient and no --fail-if holds, 1 if not, and 130 after Ctrl-C. The report then has all that was measured.",
    )
    parser.set_defaults(run=_run_load)
    much = _add_target(parser)
    much.add_argument(
        "-m", "--messages", type=whole("messages"), metavar="N", help="the number of messages (default: 1000)"
    )
    much.add_argument(
        "-d", "--duration", type=number("seconds", 0.01, 864000), metavar="SECONDS", help="the time of the run"
    )
    much.add_argument(
        "-r",
        "--rate",
        type=number("messages a second", 0.001, 1e7),
        metavar="PER_SECOND",
        help="open loop: each message has a planned start, and its latency counts from there (default: closed loop: "
        "a connection begins a message when the one before is answered)",
    )
    _add_traffic(parser)
    parser.add_argument(
        "--fail-if",
        type=condition,
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 if the condition holds, like 'p99 > 200ms', 'rcpt.p50 > 5ms', 'rate < 500' or "
        "'not-accepted > 0.1%%'; may be repeated",
    )
    add_outputs(parser)


def _add_target(parser: argparse.ArgumentParser) -> Any:
    parser.add_argument("target", type=host_port, metavar="HOST:PORT", help="where the server listens")
    much = parser.add_argument_group("how much")
    much.add_argument(
        "-c",
        "--connections",
        type=whole("connections", 1, 60000),
        default=10,
        metavar="N",
        help="open connections (default: 10)",
    )
    much.add_argument(
        "--arrivals",
        choices=("constant", "poisson"),
        default="constant",
        help="how the starts of the open loop are spaced (default: constant)",
    )
    much.add_argument(
        "-w",
        "--warmup",
        type=number("seconds", 0, 86400),
        default=0.0,
        metavar="SECONDS",
        help="time before measuring begins (default: 0)",
    )
    much.add_argument(
        "--workers", type=whole("workers", 1, 1024), default=1, metavar="N", help="number of processes (default: 1)"
    )
    return much


def _add_traffic(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("messages")
    what.add_argument(
        "-s",
        "--size",
        default="1024",
        metavar="SIZE",
        help="octets: 1024, 10k, a range 1k-64k, weights 1k:9,1m:1, or lognormal:MEDIAN:SIGMA (default: 1024)",
    )
    what.add_argument(
        "--corpus", metavar="PATH", help="send these messages: a folder of .eml files, a Maildir or an mbox file"
    )
    what.add_argument(
        "--recipients",
        type=whole("recipients", 1, 10000),
        default=1,
        metavar="N",
        help="recipients of each message (default: 1)",
    )
    what.add_argument(
        "--from",
        dest="sender",
        default="load@example.org",
        metavar="MAILBOX",
        help="the reverse-path (default: %(default)s)",
    )
    what.add_argument(
        "--to",
        default="user{n}@example.org",
        metavar="MAILBOX",
        help="the forward-paths; {n} is the number of the recipient (default: %(default)s)",
    )
    how = parser.add_argument_group("protocol")
    how.add_argument(
        "--messages-per-connection",
        type=whole("messages"),
        metavar="N",
        help="QUIT after N messages, and open a new connection",
    )
    how.add_argument(
        "--no-pipelining",
        action="store_true",
        help="lock-step: wait for the reply to each command, and time every phase",
    )
    how.add_argument(
        "--no-phases", action="store_true", help="time messages, but no commands: this costs the tool least"
    )
    how.add_argument(
        "--depth",
        type=whole("depth", 1, 1000),
        metavar="N",
        help="messages on their way on one connection (default: 1; 2 and pipelining make one round trip a message)",
    )
    how.add_argument("--bdat", action="store_true", help="use BDAT (RFC 3030) in place of DATA")
    how.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    tls = how.add_mutually_exclusive_group()
    tls.add_argument("--starttls", action="store_true", help="begin TLS by STARTTLS (RFC 3207)")
    tls.add_argument("--tls", action="store_true", help="use TLS from the start (RFC 8314)")
    how.add_argument("--verify", action="store_true", help="check the certificate of the server")
    how.add_argument(
        "--user", metavar="NAME", help="log in as this user; the environment variable EHLO_PASSWORD has the password"
    )
    how.add_argument(
        "--mechanism", choices=("PLAIN", "LOGIN"), default="PLAIN", help="the mechanism of AUTH (default: PLAIN)"
    )
    how.add_argument(
        "--hostname", default="load.example.org", metavar="NAME", help="the name for EHLO (default: %(default)s)"
    )
    how.add_argument(
        "--source", action="append", default=[], metavar="ADDRESS", help="connect from this address; may be repeated"
    )
    how.add_argument(
        "--timeout",
        type=number("seconds", 0.01, 3600),
        default=30.0,
        metavar="SECONDS",
        help="the longest wait for a reply (default: 30)",
    )
    parser.add_argument(
        "--seed", type=whole("seed", 0), default=1, metavar="N", help="the seed of all random choices (default: 1)"
    )
    parser.add_argument(
        "--i-own-this-server",
        action="store_true",
        help="allow an address that is neither loopback nor private: load on a stranger's server is an attack",
    )


def _plan(arguments: argparse.Namespace, **much: Any) -> LoadPlan:
    """The plan that the arguments of load and of capacity describe; ``much`` has what only one of them has."""
    from ehlo.bench import LoadPlan
    from ehlo.bench._load.plan import resolve

    host, port = arguments.target
    try:
        address, near = resolve(host, port)
    except (OSError, UnicodeError):
        raise UsageError(f"{host}: no such host") from None
    if not near and not arguments.i_own_this_server:
        raise UsageError(
            f"{host} is {address}, which is neither a loopback nor a private address; "
            f"if the server is yours, say so with --i-own-this-server"
        )
    plan = LoadPlan(
        host,
        port,
        connections=arguments.connections,
        arrivals=arguments.arrivals,
        warmup=arguments.warmup,
        messages_per_connection=arguments.messages_per_connection,
        depth=arguments.depth or 1,
        recipients=arguments.recipients,
        sender=arguments.sender,
        recipient=arguments.to,
        sizes=arguments.size,
        corpus=arguments.corpus,
        phases=not arguments.no_phases,
        pipelining=not arguments.no_pipelining,
        chunking=arguments.bdat,
        lmtp=arguments.lmtp,
        tls="implicit" if arguments.tls else "starttls" if arguments.starttls else "off",
        verify=arguments.verify,
        user=arguments.user,
        password=os.environ.get("EHLO_PASSWORD") if arguments.user else None,
        mechanism=arguments.mechanism,
        sources=tuple(arguments.source),
        workers=arguments.workers,
        timeout=arguments.timeout,
        hostname=arguments.hostname,
        seed=arguments.seed,
        **much,
    )
    for source in plan.sources:
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
                probe.bind((source, 0))
        except OSError as exc:
            raise UsageError(f"--source {source}: {exc.strerror or exc}; give an address of this machine") from None
    return plan


@contextmanager
def _wrong_arguments(plan: LoadPlan) -> Iterator[None]:
    """Say which argument of a plan is wrong."""
    try:
        yield
    except EhloError as exc:
        raise UsageError(f"--from, --to or --hostname: {exc}") from None
    except OSError as exc:
        raise UsageError(f"--corpus {plan.corpus}: {exc.strerror or exc}") from None
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _run_load(arguments: argparse.Namespace) -> int:
    from ehlo.bench import LoadRun, outcome

    check_outputs(arguments)
    messages = arguments.messages
    if messages is None and arguments.duration is None:
        messages = 1000
    plan = _plan(arguments, messages=messages, duration=arguments.duration, rate=arguments.rate)
    quiet = arguments.json == "-"
    view = text.view_of(plan, plain=arguments.plain, quiet=quiet)
    with _wrong_arguments(plan):
        run = LoadRun(plan, view.tick)
    with stopping(run.stop), view:
        tally: Tally = run.run()
    report = outcome(plan, tally) | {"command": arguments.command_line}
    held = [condition for condition in arguments.fail_if if condition.holds(report)]
    report["fail_if"] = [
        {"condition": one.text, "value": one.value(report), "holds": one in held} for one in arguments.fail_if
    ]
    if not quiet:
        text.say(text.load_lines(report))
    write_outputs(arguments, report)
    if tally.interrupted:
        return INTERRUPTED
    return 0 if report["complete"] and not held else 1


# ---- capacity --------------------------------------------------------------------------------------


def add_capacity(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "capacity",
        help="find the highest rate at which a percentile of the latency stays below a bound",
        description="Find the highest rate of messages at which a percentile of their latency stays below a bound. "
        "Each step is a run of the open loop. The rate doubles until a step fails; then the gap is halved. The exit "
        "status is 0 if a rate was found, 1 if not, and 130 after Ctrl-C.",
    )
    parser.set_defaults(run=_run_capacity)
    much = _add_target(parser)
    much.add_argument(
        "--percentile",
        type=float,
        choices=(50, 75, 90, 95, 99, 99.9, 99.99),
        default=99.0,
        metavar="P",
        help="the percentile: 50, 75, 90, 95, 99, 99.9 or 99.99 (default: 99)",
    )
    much.add_argument(
        "--below", type=time, default=200_000.0, metavar="TIME", help="the bound, like 1.5s (default: 200ms)"
    )
    much.add_argument(
        "--start",
        type=number("messages a second", 0.1, 1e6),
        default=10.0,
        metavar="PER_SECOND",
        help="the first rate (default: 10)",
    )
    much.add_argument(
        "--highest",
        type=number("messages a second", 1, 1e7),
        default=100_000.0,
        metavar="PER_SECOND",
        help="the highest rate to try (default: 100000)",
    )
    much.add_argument(
        "--seconds",
        type=number("seconds", 0.1, 3600),
        default=5.0,
        metavar="S",
        help="the time of each step (default: 5)",
    )
    much.add_argument(
        "--within",
        type=number("percent", 0.5, 50),
        default=5.0,
        metavar="PERCENT",
        help="stop when the gap is smaller than this (default: 5)",
    )
    _add_traffic(parser)
    add_outputs(parser)


def _run_capacity(arguments: argparse.Namespace) -> int:
    from ehlo.bench import CapacityPlan, CapacityRun

    check_outputs(arguments)
    load = _plan(arguments)
    plan = CapacityPlan(
        load,
        percentile=arguments.percentile,
        below=arguments.below,
        start=min(arguments.start, arguments.highest),
        highest=arguments.highest,
        seconds=arguments.seconds,
        within=arguments.within / 100,
    )
    quiet = arguments.json == "-"
    if not quiet:
        text.say([text.capacity_head(plan)])
    with _wrong_arguments(load):
        run = CapacityRun(plan, None if quiet else lambda step: text.say([text.capacity_step(step)]))
    with stopping(run.stop):
        report = run.run() | {"command": arguments.command_line}
    if not quiet:
        text.say(text.capacity_lines(report))
    write_outputs(arguments, report)
    if report["interrupted"]:
        return INTERRUPTED
    return 0 if report["rate"] is not None else 1
