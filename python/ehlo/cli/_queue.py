"""The command ``ehlo queue``: look at a queue, and change what is in it."""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ehlo._core import Recipient
from ehlo._errors import LocalProtocolError
from ehlo.cli._receive import UsageError, complain

if TYPE_CHECKING:
    from ehlo.cli._queue_text import Printer
    from ehlo.mta._spool import Changed, Entry, Selection, Spool

__all__ = ["add_parser"]

QUEUE: Final = """\
Look at a queue of ehlo.mta, and change it. The server may run meanwhile. --queue is the folder of the queue, or
postgresql://USER@HOST/DATABASE. Without --queue the variable EHLO_QUEUE counts. The verbs that look write nothing.
"""
FILTERS: Final = """\
With several filters, all must match. A verb that changes messages needs a filter, an ID, or --all. It leaves out
recipients that a node delivers at this moment, and prints how many.
"""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WAIT: Final = 1000

Verb: TypeAlias = "Callable[[argparse.Namespace, Spool, Printer], Awaitable[int]]"


def add_parser(commands: Any) -> None:
    """Add ``queue`` to the commands of ``ehlo``."""
    parser = commands.add_parser("queue", help="look at a queue, and change it", description=QUEUE, epilog=FILTERS)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--queue",
        metavar="QUEUE",
        default=os.environ.get("EHLO_QUEUE"),
        help="the folder or the URL of the queue (default: $EHLO_QUEUE)",
    )
    common.add_argument("--json", action="store_true", help="print one JSON object on each line")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)

    def add(name: str, run: Verb, text: str) -> argparse.ArgumentParser:
        verb: argparse.ArgumentParser = verbs.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[common]
        )
        verb.set_defaults(run=_run, do=run)
        return verb

    _add_filters(add("list", _list, "list recipients, the oldest first"), limit=100)
    for name, run, text in (
        ("show", _show, "show a message and its recipients"),
        ("why", _why, "say why the recipients of a message wait"),
        ("cat", _cat, "print the content of a message"),
    ):
        add(name, run, text).add_argument("id", type=_ident, help="the queue id: it is in the log and in the 250 reply")
    summary = add("summary", _summary, "count recipients in groups")
    counted = ["route", "domain", "sender", "age", "reply", "state"]
    summary.add_argument("--by", choices=counted, default="route", help="how to group the recipients (default: route)")
    _add_filters(summary)

    hold = _add_change(add("hold", _hold, "make no attempt for recipients until they are released"))
    hold.add_argument("--reason", default="held by an administrator", help="the reason that list and why print")
    _add_change(add("release", _release, "end a hold: the recipients are due at once"))
    _add_change(add("retry", _retry, "make recipients that wait due at once"))
    redirect = add("redirect", _redirect, "give recipients another address")
    redirect.add_argument("--to", required=True, metavar="ADDRESS", help="the new recipient")
    _add_change(redirect)
    fail = _add_change(add("fail", _fail, "end recipients; their senders get a bounce"))
    ending = "550 5.7.0 Ended by an administrator"
    fail.add_argument(
        "--with", dest="ending", metavar="REPLY", default=ending, help=f"the reply in the bounce (default: {ending})"
    )
    fail.add_argument("--hostname", default=socket.getfqdn(), help="the name in the bounce (default: this machine's)")
    _add_change(add("drop", _drop, "forget recipients; nobody is told"))

    suspend = add("suspend", _suspend, "make no attempt for a route, on any node")
    suspend.add_argument("route", help="the name of the route, as list prints it")
    suspend.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=3600.0,
        metavar="TIME",
        help="how long, like 90s 30m 4h 2d 1w (default: 1h)",
    )
    suspend.add_argument(
        "--reason", default="suspended by an administrator", help="the reason that suspensions and why print"
    )
    resume = add("resume", _resume, "end the suspension of a route")
    resume.add_argument("route", help="the name of the route")
    add("suspensions", _suspensions, "list the suspended routes")
    add("nodes", _nodes, "list the processes that use the queue")
    verify = add("verify", _verify, "look for damage; exit with 1 if there is some")
    verify.add_argument("--repair", action="store_true", help="repair the damage; no message is dropped")
    migrate = add("migrate", _nodes, "bring the tables of a queue up to date, while no server uses it")
    migrate.set_defaults(run=_run_migrate)


def _add_filters(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    parser.add_argument("--id", type=_ident, action="append", help="the queue id; may be repeated")
    parser.add_argument("--sender", help="the reverse-path; '' for the null path")
    parser.add_argument("--recipient", help="the forward-path")
    parser.add_argument("--domain", help="the domain of the forward-path")
    parser.add_argument("--route", help="the route of the last attempt, by its name")
    parser.add_argument(
        "--state",
        choices=["ready", "owned", "held"],
        help="ready: due at a time; owned: being delivered; held: no attempts",
    )
    parser.add_argument(
        "--older", type=_seconds, metavar="TIME", help="the message arrived longer ago than this, like 90s 30m 4h 2d 1w"
    )
    parser.add_argument("--reply", help="a text in the last reply")
    parser.add_argument("--limit", type=_positive, default=limit, metavar="N", help="N recipients at most")


def _add_change(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    _add_filters(parser)
    parser.add_argument("ids", type=_ident, nargs="*", metavar="ID", help="a queue id")
    parser.add_argument("--all", action="store_true", help="all recipients in the queue")
    parser.add_argument("--dry-run", action="store_true", help="print how many would change, and change nothing")
    return parser


def _ident(text: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", text) or int(text, 16) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no queue id: it has up to 16 digits of 0-9 and a-f")
    return int(text, 16)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give a number and a unit, as in 90s 30m 4h 2d 1w")
    return float(found[1]) * _UNITS[found[2]]


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


# ---- running -----------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    return _with_kit(arguments, _do)


def _run_migrate(arguments: argparse.Namespace) -> int:
    return _with_kit(arguments, _do_migrate)


def _with_kit(arguments: argparse.Namespace, function: Callable[..., Awaitable[int]]) -> int:
    if not arguments.queue:
        raise UsageError("which queue? give --queue FOLDER or --queue postgresql://…, or set EHLO_QUEUE")
    try:
        import anyio

        from ehlo.cli._queue_text import Printer
        from ehlo.mta._spool import SpoolError
    except ModuleNotFoundError as exc:
        raise UsageError(f"queue needs {exc.name}: pip install 'ehlo[mta]'") from None
    try:
        return anyio.run(function, arguments, Printer(sys.stdout, arguments.json))
    except SpoolError as exc:
        complain(f"ehlo queue {arguments.verb}: {exc}")
        return 1
    except LocalProtocolError as exc:
        raise UsageError(str(exc)) from None
    except BrokenPipeError:  # the reader of the list has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


async def _do(arguments: argparse.Namespace, printer: Printer) -> int:
    from ehlo.mta._open import administered

    async with administered(arguments.queue) as spool:  # type: ignore[attr-defined]
        status: int = await arguments.do(arguments, spool, printer)
        return status


async def _do_migrate(arguments: argparse.Namespace, printer: Printer) -> int:
    from ehlo.mta._open import administered

    before, after = await administered(arguments.queue).migrate()
    printer.fact({"before": before, "after": after}, f"schema {before} before, {after} now")
    return 0


def _selection(arguments: argparse.Namespace) -> Selection:
    from ehlo.mta._spool import Selection

    ids = [*(arguments.id or ()), *getattr(arguments, "ids", ())]
    older = None if arguments.older is None else time.time() - arguments.older
    selection = Selection(
        ids or None,
        arguments.sender,
        arguments.recipient,
        arguments.domain,
        arguments.route,
        arguments.state,
        older,
        None,
        arguments.reply,
    )
    if hasattr(arguments, "all") and not arguments.all and selection == Selection():
        raise UsageError(f"{arguments.verb} needs a filter, an ID, or --all")
    return replace(selection, limit=arguments.limit)


# ---- looking -----------------------------------------------------------------------------------------


async def _list(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    selection = _selection(arguments)
    after = (0, 0)
    left = arguments.limit
    while left > 0:
        page = await spool.entries(selection, min(left, _WAIT), after)
        printer.entries(page, time.time())
        left -= len(page)
        if len(page) < _WAIT:
            break
        after = (page[-1].message.id, page[-1].recipient.id)
    return 0


async def _entries(arguments: argparse.Namespace, spool: Spool) -> list[Entry]:
    from ehlo.mta._spool import Selection, SpoolError

    found = await spool.entries(Selection([arguments.id]), _WAIT)
    if not found:
        raise SpoolError(f"message {arguments.id:016x} is not in the queue: it was delivered, or bounced, or dropped")
    return found


async def _show(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    printer.message(await _entries(arguments, spool), time.time())
    return 0


async def _why(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    from ehlo.cli._queue_text import reasons

    found = await _entries(arguments, spool)
    nodes, rules, dead = await spool.nodes(), await spool.suspensions(), await spool.dead_routes()
    now = time.time()
    for entry in found:
        printer.why(entry, reasons(entry, nodes, rules, dead, now))
    return 0


async def _cat(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    content = await spool.read((await _entries(arguments, spool))[0].message)
    out = sys.stdout.buffer
    if isinstance(content, bytes):
        out.write(content)
    else:
        async for chunk in content():
            out.write(chunk)
    out.flush()
    return 0


async def _summary(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    now = time.time()
    printer.groups(arguments.by, await spool.summary(arguments.by, now, _selection(arguments)), now)
    return 0


async def _suspensions(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    printer.suspensions(await spool.suspensions(), await spool.dead_routes(), time.time())
    return 0


async def _nodes(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    printer.nodes(await spool.nodes(), time.time())
    return 0


async def _verify(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    with printer.progress("messages") as progress:
        findings = await spool.verify(repair=arguments.repair, progress=progress)
    printer.findings(findings)
    return int(any(not finding.repaired for finding in findings))


# ---- changing ----------------------------------------------------------------------------------------


async def _change(
    arguments: argparse.Namespace,
    spool: Spool,
    printer: Printer,
    done: str,
    function: Callable[[Selection], Awaitable[Changed]],
) -> int:
    selection = _selection(arguments)
    changed = await (spool.count(selection) if arguments.dry_run else function(selection))
    printer.changed(f"would be {done}" if arguments.dry_run else done, changed)
    return 0


async def _hold(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    return await _change(arguments, spool, printer, "held", lambda chosen: spool.hold(chosen, arguments.reason))


async def _release(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    if arguments.state not in (None, "held"):
        raise UsageError("release is only for recipients that are held")
    arguments.state = "held"
    if not (arguments.ids or arguments.all or _is_filtered(arguments)):
        raise UsageError("release needs a filter, an ID, or --all")
    return await _change(arguments, spool, printer, "released", lambda chosen: spool.unhold(chosen, time.time()))


def _is_filtered(arguments: argparse.Namespace) -> bool:
    names = ("id", "sender", "recipient", "domain", "route", "older", "reply")
    return any(getattr(arguments, name) is not None for name in names)


async def _retry(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    return await _change(arguments, spool, printer, "due now", lambda chosen: spool.retry(chosen, time.time()))


async def _redirect(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    path = str(Recipient(arguments.to).path)
    return await _change(
        arguments, spool, printer, "redirected", lambda chosen: spool.redirect(chosen, path, time.time())
    )


async def _drop(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    return await _change(arguments, spool, printer, "dropped", spool.drop)


async def _fail(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    from ehlo import Reply
    from ehlo.mta import Hold, Queue
    from ehlo.mta._spool import Changed

    try:
        reply = Reply.parse(arguments.ending)
    except ValueError as exc:
        raise UsageError(f"--with: {exc}") from None
    if not reply.is_permanent:
        raise UsageError(f"--with: a reply of 5yz, not {arguments.ending!r}")
    queue = Queue(spool, hostname=arguments.hostname, route=lambda recipient: Hold("not delivered here"))

    async def fail(selection: Selection) -> Changed:
        counted = await spool.count(selection)
        total = counted.recipients + counted.busy
        with printer.progress("recipients") as progress:
            ended = await queue.fail(selection, reply, total, lambda number: progress(number, total))
        return Changed(ended, counted.busy)

    return await _change(arguments, spool, printer, "failed", fail)


async def _suspend(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    from ehlo.mta._spool import Selection, Suspension

    now = time.time()
    await spool.suspend(Suspension(arguments.route, now + arguments.seconds, arguments.reason, now))
    found = await spool.count(Selection(route=arguments.route))
    # A route has its name from its first attempt on, so one without mail may be suspended, too.
    printer.suspended(arguments.route, arguments.seconds, found.recipients + found.busy)
    return 0


async def _resume(arguments: argparse.Namespace, spool: Spool, printer: Printer) -> int:
    there = await spool.resume(arguments.route)
    text = f"{arguments.route} is resumed" if there else f"there was no suspension of {arguments.route}"
    printer.fact({"route": arguments.route, "resumed": there}, text)
    return 0 if there else 1
