"""The command ``ehlo dkim keygen``."""

from __future__ import annotations

import argparse
from typing import Any

from ehlo._errors import LocalProtocolError
from ehlo.cli._receive import UsageError

__all__ = ["add_parser"]

KEYGEN = """\
Makes a key for DKIM. The private key goes into a new file that only its owner may read; the record for the DNS is
printed as a zone file has it. Put the record into the DNS before the first message is signed.
"""


def add_parser(commands: Any) -> None:
    """Add ``dkim`` to the commands of ``ehlo``."""
    parser = commands.add_parser("dkim", help="make keys for DKIM signatures")
    tasks = parser.add_subparsers(dest="task", metavar="task", required=True)
    keygen = tasks.add_parser("keygen", help="make a key, and print its DNS record", description=KEYGEN)
    keygen.add_argument("domain", help="the signing domain, like example.org")
    keygen.add_argument("--selector", default="mail", help="the key's name in the DNS (default: mail)")
    keygen.add_argument("--type", choices=["rsa", "ed25519"], default="rsa", help="(default: rsa)")
    keygen.add_argument("--bits", type=int, default=2048, help="of an RSA key, at least 1024 (default: 2048)")
    keygen.add_argument("--out", metavar="FILE", help="for the private key (default: SELECTOR.private)")
    keygen.set_defaults(run=_keygen)


def _keygen(arguments: argparse.Namespace) -> int:
    try:
        from ehlo.dkim import Signer, generate_key, write_key, zone_lines
    except ModuleNotFoundError as exc:
        raise UsageError(f"keygen needs {exc.name}: pip install 'ehlo[dkim]'") from None
    path = arguments.out or f"{arguments.selector}.private"
    try:
        key = generate_key(arguments.type, arguments.bits)
        Signer(key, arguments.domain, arguments.selector)  # are they names that a signature can bear?
        write_key(key, path)
    except LocalProtocolError as exc:
        raise UsageError(str(exc)) from None
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}") from None
    print(zone_lines(key, arguments.domain, arguments.selector))
    return 0
