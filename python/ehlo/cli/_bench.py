"""``ehlo bench``: the arguments of its five tools, and what is refused before anything is measured."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehlo._errors import EhloError
from ehlo.cli import _bench_text as text
from ehlo.cli._receive import UsageError, port, where, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ehlo.bench import Tally

__all__ = ["add_parser"]

_INTERRUPTED = 130  # the shell's convention for a command that SIGINT ended


def add_parser(commands: Any) -> None:
    """Add ``bench`` to the command's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench", help="measure SMTP servers, clients and this library", description="Measure."
    )
    tools = parser.add_subparsers(dest="tool", metavar="tool", required=True, parser_class=type(parser))
    _add_load(tools)
    _add_sink(tools)
    _add_core(tools)
    _add_compare(tools)
    _add_report(tools)


# ---- values of arguments ---------------------------------------------------------------------------


def _number(what: str, low: float, high: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{what}: a number from {low:g} to {high:g}, not {value!r}")
        return number

    return read


def _host_port(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"give HOST:PORT, as 127.0.0.1:2525 or [::1]:2525, not {value!r}")
    return host, int(port)


def _add_outputs(parser: argparse.ArgumentParser, *, html: bool = True) -> None:
    outputs = parser.add_argument_group("output")
    outputs.add_argument("--json", metavar="FILE", help="write the whole report, - for standard output")
    if html:
        outputs.add_argument("--html", metavar="FILE", help="write one page with plots, that needs no network")
    outputs.add_argument("--plain", action="store_true", help="lines, even on a terminal")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """A run of ten minutes is not to end with a file that cannot be written."""
    for flag in ("json", "html"):
        path = getattr(arguments, flag, None)
        if path is None or path == "-":
            continue
        folder = Path(path).parent
        if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"--{flag} {path}: cannot be written there; name a file in a folder that exists")


def _write_outputs(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    if arguments.json is not None:
        document = json.dumps(report, indent=1)
        if arguments.json == "-":
            sys.stdout.write(document + "\n")
        else:
            Path(arguments.json).write_text(document + "\n", encoding="utf-8")
    if getattr(arguments, "html", None) is not None:
        from ehlo.bench import page

        Path(arguments.html).write_text(page(report), encoding="utf-8")


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call ``stop``; a second one ends the process as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard(number: int, frame: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop()

    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- load ------------------------------------------------------------------------------------------


def _add_load(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "load",
        help="put load on an SMTP or LMTP server and tell rates, latencies and errors",
        description="Put load on an SMTP or LMTP server. The exit status is 0 if every message was accepted for every "
        "recipient, 1 if not, and 130 after Ctrl-C, which tells what was measured so far.",
    )
    parser.set_defaults(run=_run_load)
    parser.add_argument("target", type=_host_port, metavar="HOST:PORT", help="where the server listens")
    much = parser.add_argument_group("how much")
    much.add_argument(
        "-c",
        "--connections",
        type=whole("connections", 1, 60000),
        default=10,
        metavar="N",
        help="at once (default: 10)",
    )
    much.add_argument("-m", "--messages", type=whole("messages"), metavar="N", help="in all (default: 1000)")
    much.add_argument("-d", "--duration", type=_number("seconds", 0.01, 864000), metavar="SECONDS", help="for so long")
    much.add_argument(
        "-r",
        "--rate",
        type=_number("messages a second", 0.001, 1e7),
        metavar="PER_SECOND",
        help="open loop: a message has an intended start, whatever the server does, and its latency counts from there "
        "(default: closed loop, each connection waits for its last message)",
    )
    much.add_argument("--arrivals", choices=("constant", "poisson"), default="constant", help="of the open loop")
    much.add_argument(
        "-w", "--warmup", type=_number("seconds", 0, 86400), default=0.0, metavar="SECONDS", help="not measured"
    )
    much.add_argument(
        "--workers", type=whole("workers", 1, 1024), default=1, metavar="N", help="processes (default: 1)"
    )
    what = parser.add_argument_group("messages")
    what.add_argument(
        "-s",
        "--size",
        default="1024",
        metavar="SIZE",
        help="octets: 1024, 10k, a range 1k-64k, weights 1k:9,1m:1, or lognormal:MEDIAN:SIGMA (default: 1024)",
    )
    what.add_argument("--corpus", metavar="PATH", help="a directory of .eml files, a Maildir or an mbox file instead")
    what.add_argument(
        "--recipients", type=whole("recipients", 1, 10000), default=1, metavar="N", help="of each message"
    )
    what.add_argument(
        "--from", dest="sender", default="load@example.org", metavar="MAILBOX", help="(default: %(default)s)"
    )
    what.add_argument(
        "--to",
        default="user{n}@example.org",
        metavar="MAILBOX",
        help="{n} is the recipient's number (default: %(default)s)",
    )
    how = parser.add_argument_group("protocol")
    how.add_argument(
        "--messages-per-connection", type=whole("messages"), metavar="N", help="then QUIT and a new connection"
    )
    how.add_argument(
        "--no-pipelining", action="store_true", help="lock-step: every command waits, every phase is timed"
    )
    how.add_argument("--no-phases", action="store_true", help="time messages and no commands: the least overhead")
    how.add_argument(
        "--depth",
        type=whole("depth", 1, 1000),
        metavar="N",
        help="messages under way on one connection (default: 1; 2 and pipelining make one round trip a message)",
    )
    how.add_argument("--bdat", action="store_true", help="BDAT (RFC 3030) instead of DATA")
    how.add_argument("--lmtp", action="store_true", help="LMTP (RFC 2033)")
    tls = how.add_mutually_exclusive_group()
    tls.add_argument("--starttls", action="store_true", help="TLS by STARTTLS (RFC 3207)")
    tls.add_argument("--tls", action="store_true", help="TLS from the start (RFC 8314)")
    how.add_argument("--verify", action="store_true", help="check the server's certificate")
    how.add_argument("--user", metavar="NAME", help="for AUTH; the password comes from the environment's EHLO_PASSWORD")
    how.add_argument("--mechanism", choices=("PLAIN", "LOGIN"), default="PLAIN", help="of AUTH (default: PLAIN)")
    how.add_argument(
        "--hostname", default="load.example.org", metavar="NAME", help="ours, for EHLO (default: %(default)s)"
    )
    how.add_argument(
        "--source", action="append", default=[], metavar="ADDRESS", help="connect from it; may be repeated"
    )
    how.add_argument(
        "--timeout",
        type=_number("seconds", 0.01, 3600),
        default=30.0,
        metavar="SECONDS",
        help="for a reply (default: 30)",
    )
    parser.add_argument("--seed", type=whole("seed", 0), default=1, metavar="N", help="of all that is random")
    parser.add_argument(
        "--i-own-this-server",
        action="store_true",
        help="for an address that is not a loopback or private one: load on a stranger's server is an attack",
    )
    _add_outputs(parser)


def _run_load(arguments: argparse.Namespace) -> int:
    from ehlo.bench import LoadPlan, LoadRun, outcome
    from ehlo.bench._load.plan import resolve

    _check_outputs(arguments)
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
    messages = arguments.messages
    if messages is None and arguments.duration is None:
        messages = 1000
    plan = LoadPlan(
        host,
        port,
        connections=arguments.connections,
        messages=messages,
        duration=arguments.duration,
        rate=arguments.rate,
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
    )
    for source in plan.sources:
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
                probe.bind((source, 0))
        except OSError as exc:
            raise UsageError(f"--source {source}: {exc.strerror or exc}; give an address of this machine") from None
    quiet = arguments.json == "-"
    view = text.view_of(plan, plain=arguments.plain, quiet=quiet)
    try:
        run = LoadRun(plan, view.tick)
    except EhloError as exc:
        raise UsageError(f"--from, --to or --hostname: {exc}") from None
    except OSError as exc:
        raise UsageError(f"--corpus {plan.corpus}: {exc.strerror or exc}") from None
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    with _stopping(run.stop), view:
        tally: Tally = run.run()
    report = outcome(plan, tally)
    if not quiet:
        text.say(text.load_lines(report))
    _write_outputs(arguments, report)
    if tally.interrupted:
        return _INTERRUPTED
    return 0 if report["complete"] else 1


# ---- sink ------------------------------------------------------------------------------------------


def _add_sink(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "sink",
        help="receive as fast as can be, and go wrong on demand",
        description="Receive mail as fast as can be and throw it away; go wrong on demand. Ctrl-C or SIGTERM ends it, "
        "and it tells what came.",
    )
    parser.set_defaults(run=_run_sink)
    parser.add_argument("--host", default="127.0.0.1", help="address or name (default: %(default)s)")
    parser.add_argument("--port", type=port, default=2525, help="0: any free one (default: %(default)s)")
    parser.add_argument("--workers", type=whole("workers", 1, 1024), default=1, metavar="N", help="processes")
    parser.add_argument("--lmtp", action="store_true", help="LMTP (RFC 2033)")
    parser.add_argument("--max-size", type=whole("a size", 0, 2**62), default=0, metavar="BYTES", help="0: no limit")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="COMMAND:ACTION[:PROBABILITY]",
        help="COMMAND: connect, hello, mail, rcpt, data or message (the end of it). ACTION: a code as 550 or 421, "
        "disconnect, delay=SECONDS, or drip=SECONDS for each octet. As rcpt:550:0.1; may be repeated",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="COMMAND:PER_SECOND[:CODE]",
        help="refuse what comes faster, in each process, as mail:100:450; may be repeated",
    )
    parser.add_argument("--seed", type=whole("seed", 0), default=1, metavar="N", help="of the faults")
    _add_outputs(parser, html=False)


def _run_sink(arguments: argparse.Namespace) -> int:
    from ehlo.bench import SinkRun

    _check_outputs(arguments)
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
    with _stopping(run.stop):
        line = f"ehlo bench sink: listening on {where(run.address)} ({'LMTP' if arguments.lmtp else 'SMTP'})"
        if quiet:
            sys.stderr.write(line + "\n")
        else:
            text.say([line])
        report = run.run()
    if not quiet:
        text.say(text.sink_lines(report))
    _write_outputs(arguments, report)
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
        "--seconds", type=_number("seconds", 0.001, 60), default=0.3, help="for each figure (default: %(default)s)"
    )
    _add_outputs(parser)


def _run_core(arguments: argparse.Namespace) -> int:
    from ehlo.bench import run_core

    _check_outputs(arguments)
    quiet = arguments.json == "-"
    if not quiet:
        text.say(text.build_lines())
    report = run_core(arguments.seconds, None if quiet else lambda result: text.say([text.core_line(result)]))
    if not quiet:
        text.say([f"  warning: {warning}" for warning in report["warnings"]])
    _write_outputs(arguments, report)
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
        help="our servers and clients beside others that are on this machine",
        description="Run our servers and clients beside every other one that is found on this machine, each alone on "
        "a processor, in interleaved rounds, and tell what a message costs. Without arguments it takes about half an "
        "hour; --quick takes a few minutes.",
    )
    parser.set_defaults(run=_run_compare)
    parser.add_argument(
        "--parts", type=_words, metavar="LIST", help="of servers, clients, stall and idle (default: all)"
    )
    parser.add_argument("--servers", type=_words, metavar="LIST", help="which (default: all that are found but bare-…)")
    parser.add_argument("--clients", type=_words, metavar="LIST", help="which (default: all that are found but bare-…)")
    parser.add_argument("--sizes", type=_sizes, metavar="LIST", help="of messages (default: 1k,10k,100k,10m)")
    parser.add_argument(
        "--modes",
        type=_words,
        metavar="LIST",
        help="of lock-step, pipelined, TLS, 'new connection' and 'new TLS connection' (default: all)",
    )
    parser.add_argument("--rounds", type=whole("rounds", 1, 1000), metavar="N", help="(default: 5)")
    parser.add_argument("--seconds", type=_number("seconds", 0.05, 600), metavar="S", help="each (default: 1)")
    parser.add_argument(
        "-c",
        "--connections",
        type=whole("connections", 1, 10000),
        default=20,
        metavar="N",
        help="at once (default: 20)",
    )
    parser.add_argument("--idle", type=whole("connections", 1, 100000), default=1000, metavar="N", help="that idle")
    parser.add_argument("--quick", action="store_true", help="three rounds, 1k and 100k, half a second each")
    parser.add_argument("--list", action="store_true", help="say which are found, and measure nothing")
    _add_outputs(parser)


def _run_compare(arguments: argparse.Namespace) -> int:
    from ehlo.bench import MODES, PARTS, ComparePlan, clients_here, compare, servers_here
    from ehlo.bench._compare.peers import CLIENTS, SERVERS

    if sys.platform == "win32":
        raise UsageError("compare needs a system with /proc or getrusage of children")
    _check_outputs(arguments)
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
                raise UsageError(f"{flag}: {word!r} is none of {', '.join(known)} that are here")
    quick = arguments.quick
    plan = ComparePlan(
        parts=arguments.parts or PARTS,
        servers=arguments.servers,
        clients=arguments.clients,
        sizes=arguments.sizes or ((1024, 102400) if quick else ComparePlan().sizes),
        modes=arguments.modes or MODES,
        rounds=arguments.rounds or (3 if quick else 5),
        seconds=arguments.seconds or (0.5 if quick else 1.0),
        connections=arguments.connections,
        idle=arguments.idle,
    )
    quiet = arguments.json == "-"
    if not quiet:
        text.say(text.build_lines())
    report = compare(plan, None if quiet else lambda line: text.say([line]))
    if not quiet:
        text.say(text.compare_lines(report))
    _write_outputs(arguments, report)
    return _INTERRUPTED if report["interrupted"] else 0


# ---- report ----------------------------------------------------------------------------------------


def _add_report(tools: Any) -> None:
    parser: argparse.ArgumentParser = tools.add_parser(
        "report",
        help="show reports that --json wrote, or put them side by side",
        description="Show a report that --json wrote, or put several of one tool side by side.",
    )
    parser.set_defaults(run=_run_report)
    parser.add_argument("files", nargs="+", metavar="FILE", help="what --json wrote")
    _add_outputs(parser)


def _run_report(arguments: argparse.Namespace) -> int:
    from ehlo.bench import read_report, side_by_side

    _check_outputs(arguments)
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
    _write_outputs(arguments, named[0][1] if one else report)
    return 0
