"""The command ``ehlo``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from ehlo._core import __version__
from ehlo.cli import _bench, _dkim, _queue, _send, _sink, _user
from ehlo.cli._receive import UsageError, complain
from ehlo.cli._serve import command as _serve

__all__ = ["main"]


class Parser(argparse.ArgumentParser):
    """Bad usage gets one line, and exit 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(2)


def _parser() -> Parser:
    """All commands with their options. The site and its tests read it, too."""
    parser = Parser(
        prog="ehlo", description="Mail servers, a client, a queue and measurements, on an SMTP protocol core."
    )
    parser.add_argument("--version", action="version", version=f"ehlo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True, parser_class=Parser)
    _sink.add_parser(commands)
    _serve.add_parser(commands)
    _send.add_parser(commands)
    _bench.add_parser(commands)
    _dkim.add_parser(commands)
    _queue.add_parser(commands)
    _user.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Arguments:
        argv: the arguments behind the command's name; ``None`` takes them from ``sys.argv``.

    Returns:
        The exit status: 0, or another as the command's ``--help`` says. Bad usage raises ``SystemExit(2)``.

    Example::

        ehlo.cli.main(["sink", "--port", "2525", "--discard"])
    """
    arguments = _parser().parse_args(argv)
    arguments.command_line = shlex.join(["ehlo", *(sys.argv[1:] if argv is None else argv)])
    try:
        return int(arguments.run(arguments))
    except UsageError as exc:
        complain(f"ehlo {arguments.command}: {exc}")
        raise SystemExit(2) from None
