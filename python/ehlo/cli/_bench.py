"""``ehlo bench``: the arguments of its six tools, and what is refused before anything is measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ehlo._errors import EhloError
from ehlo.cli import _bench_text as text
from ehlo.cli._bench_arguments import INTERRUPTED, add_outputs, check_outputs, number, stopping, write_outputs
from ehlo.cli._bench_load import add_capacity, add_load
from ehlo.cli._receive import UsageError, port, where, whole

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add ``bench`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure SMTP servers, clients and this library",
        description="Measure SMTP servers, clients and this library.",
    )
    tools = parser.add_subparsers(dest="tool", metavar="tool", required=True, parser_class=type(parser))
    add_load(tools)
    add_capacity(tools)
    _add_sink(tools)
    _add_core(tools)
    _add_compare(tools)
    _add_report(tools)


# ---- sink ------------------------------------------------------------------------------------------


def _add_sink(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "sink",
        help="receive mail as fast as possible, with errors on demand",
        description="Receive mail as fast as possible, and throw it away. --fault and --limit make errors on demand. "
        "Ctrl-C or SIGTERM ends the sink, and prints the totals.",
    )
    parser.set_defaults(run=_run_sink)
    parser.add_argument("--host", default="127.0.0.1", help="the address or name to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=2525, help="the TCP port; 0: any free port (default: %(default)s)")
    parser.add_argument(
        "--workers", type=whole("workers", 1, 1024), default=1, metavar="N", help="number of processes (default: 1)"
    )
    parser.add_argument("--lmtp", action="store_true", help="speak LMTP (RFC 2033)")
    parser.add_argument(
        "--max-size",
        type=whole("a size", 0, 2**62),
        default=0,
        metavar="BYTES",
        help="octets of a message, at most; 0: no limit (default: 0)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="COMMAND:ACTION[:PROBABILITY]",
        help="make an error, like rcpt:550:0.1; may be repeated. COMMAND: connect, hello, mail, rcpt, data or message "
        "(the end of the content). ACTION: a code like 550 or 421, disconnect, delay=SECONDS, or drip=SECONDS for each "
        "octet of the reply",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="COMMAND:PER_SECOND[:CODE]",
        help="refuse commands above this rate, in each process, like mail:100:450; may be repeated",
    )
    parser.add_argument(
        "--seed", type=whole("seed", 0), default=1, metavar="N", help="the seed of the random faults (default: 1)"
    )
    add_outputs(parser, html=False)


def _run_sink(arguments: argparse.Namespace) -> int:
    from ehlo.bench import SinkRun

    check_outputs(arguments)
    quiet = arguments.json == "-"
    view = text.SinkView(quiet)
    try:
        run = SinkRun(
            arguments.host,
            arguments.port,
            workers=arguments.workers,
            lmtp=arguments.lmtp,
            max_size=arguments.max_size or None,
            faults=arguments.fault,
            limits=arguments.limit,
            seed=arguments.seed,
            on_tick=view.tick,
        )
    except (ValueError, EhloError) as exc:
        raise UsageError(str(exc)) from None
    except OSError as exc:
        raise UsageError(
            f"cannot listen on port {arguments.port} of {arguments.host}: {exc.strerror or exc}; "
            f"choose others with --host and --port"
        ) from None
    with stopping(run.stop):
        line = f"ehlo bench sink: listening on {where(run.address)} ({'LMTP' if arguments.lmtp else 'SMTP'})"
        if quiet:
            sys.stderr.write(line + "\n")
        else:
            text.say([line])
        report = run.run()
    if not quiet:
        text.say(text.sink_lines(report))
    write_outputs(arguments, report)
    return 0


# ---- core ------------------------------------------------------------------------------------------


def _add_core(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "core",
        help="time the parser, the codec and the engines on this machine",
        description="Time the parser, the codec and both engines on this machine, without a socket.",
    )
    parser.set_defaults(run=_run_core)
    parser.add_argument(
        "--seconds",
        type=number("seconds", 0.001, 60),
        default=0.3,
        help="the time for each figure (default: %(default)s)",
    )
    add_outputs(parser)


def _run_core(arguments: argparse.Namespace) -> int:
    from ehlo.bench import run_core

    check_outputs(arguments)
    quiet = arguments.json == "-"
    if not quiet:
        text.say(text.build_lines())
    report = run_core(arguments.seconds, None if quiet else lambda result: text.say([text.core_line(result)]))
    if not quiet:
        text.say([f"  warning: {warning}" for warning in report["warnings"]])
    write_outputs(arguments, report)
    return 0


# ---- compare ---------------------------------------------------------------------------------------


def _sizes(value: str) -> tuple[int, ...]:
    from ehlo.bench import parse_size

    try:
        return tuple(parse_size(part) for part in value.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _words(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _add_compare(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "compare",
        help="compare our servers and clients with others on this machine",
        description="Run our servers and clients, and every other one on this machine. Each runs alone on a processor, "
        "and all take turns in rounds. The result is the cost of a message. Without arguments this takes some minutes; "
        "--full takes about half an hour.",
    )
    parser.set_defaults(run=_run_compare)
    parser.add_argument(
        "--parts",
        type=_words,
        metavar="LIST",
        help="the parts to run: servers, clients, stall, idle, queue (default: all but queue)",
    )
    parser.add_argument(
        "--servers", type=_words, metavar="LIST", help="the servers (default: all on this machine but bare-…)"
    )
    parser.add_argument(
        "--clients", type=_words, metavar="LIST", help="the clients (default: all on this machine but bare-…)"
    )
    parser.add_argument(
        "--sizes", type=_sizes, metavar="LIST", help="the sizes of messages (default: 1k,100k; --full: also 10k, 10m)"
    )
    parser.add_argument(
        "--modes",
        type=_words,
        metavar="LIST",
        help="the modes: lock-step, pipelined, TLS, 'new connection', 'new TLS connection' (default: all)",
    )
    parser.add_argument(
        "--rounds", type=whole("rounds", 1, 1000), metavar="N", help="the number of rounds (default: 3; --full: 5)"
    )
    parser.add_argument(
        "--seconds",
        type=number("seconds", 0.05, 600),
        metavar="S",
        help="the time of each measurement (default: 0.5; --full: 1)",
    )
    parser.add_argument(
        "-c",
        "--connections",
        type=whole("connections", 1, 10000),
        default=20,
        metavar="N",
        help="open connections (default: 20)",
    )
    parser.add_argument(
        "--idle",
        type=whole("connections", 1, 100000),
        default=1000,
        metavar="N",
        help="idle connections in the part idle (default: 1000)",
    )
    parser.add_argument(
        "--full", action="store_true", help="five rounds, four sizes, and a second for each measurement"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the servers and clients on this machine, and measure nothing"
    )
    add_outputs(parser)


def _run_compare(arguments: argparse.Namespace) -> int:
    from ehlo.bench import MODES, PARTS, ComparePlan, clients_here, compare, servers_here
    from ehlo.bench._compare.peers import CLIENTS, SERVERS

    if sys.platform == "win32":
        raise UsageError("compare needs a system with /proc or getrusage of children")
    check_outputs(arguments)
    servers, clients = servers_here(), clients_here()
    if arguments.list:
        text.say([f"servers: {', '.join(servers)}", f"clients: {', '.join(clients)}"])
        missing = [name for name in SERVERS if name not in servers] + [name for name in CLIENTS if name not in clients]
        text.say([f"not installed: {', '.join(missing)}"] if missing else [])
        return 0
    for given, known, flag in (
        (arguments.parts, PARTS, "--parts"),
        (arguments.modes, MODES, "--modes"),
        (arguments.servers, servers, "--servers"),
        (arguments.clients, clients, "--clients"),
    ):
        for word in given or ():
            if word not in known:
                raise UsageError(f"{flag}: {word!r} is not here; there are {', '.join(known)}")
    full = ComparePlan()
    plan = ComparePlan(
        parts=arguments.parts or full.parts,
        servers=arguments.servers,
        clients=arguments.clients,
        sizes=arguments.sizes or (full.sizes if arguments.full else (1024, 102400)),
        modes=arguments.modes or MODES,
        rounds=arguments.rounds or (full.rounds if arguments.full else 3),
        seconds=arguments.seconds or (full.seconds if arguments.full else 0.5),
        connections=arguments.connections,
        idle=arguments.idle,
    )
    quiet = arguments.json == "-"
    if not quiet:
        text.say(text.build_lines())
    with stopping(_interrupt):  # the servers that run end with it
        report = compare(plan, None if quiet else lambda line: text.say([line]))
    if not quiet:
        text.say(text.compare_lines(report))
    write_outputs(arguments, report)
    return INTERRUPTED if report["interrupted"] else 0


def _interrupt() -> None:
    raise KeyboardInterrupt


# ---- report ----------------------------------------------------------------------------------------


def _add_report(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "report",
        help="show reports that --json wrote, or put them side by side",
        description="Show a report that --json wrote, or put several of one tool side by side.",
    )
    parser.set_defaults(run=_run_report)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a report that --json wrote")
    add_outputs(parser)


def _run_report(arguments: argparse.Namespace) -> int:
    from ehlo.bench import read_report, side_by_side

    check_outputs(arguments)
    try:
        named = [(Path(file).stem, read_report(file)) for file in arguments.files]
        report = side_by_side(named)
    except OSError as exc:
        raise UsageError(f"{exc.filename}: {exc.strerror or exc}") from None
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    if arguments.json != "-":
        text.say(text.report_lines(report))
    one = len(named) == 1 and named[0][1]["tool"] != "ehlo bench sink"
    write_outputs(arguments, named[0][1] if one else report)
    return 0
