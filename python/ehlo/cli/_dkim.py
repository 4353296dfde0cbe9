"""The command ``ehlo dkim keygen``."""

from __future__ import annotations

import argparse
from typing import Any

from ehlo._errors import LocalProtocolError
from ehlo.cli._receive import UsageError

__all__ = ["add_parser"]

KEYGEN = """\
Make a key for DKIM. The private key goes into a new file that only its owner may read. The record for the DNS is
printed as a line of a zone file. Put it into the DNS before you sign the first message.
"""


def add_parser(commands: Any) -> None:
    """Add ``dkim`` to the commands of ``ehlo``."""
    parser = commands.add_parser(
        "dkim", help="make keys for DKIM signatures", description="Make keys for DKIM signatures."
    )
    tasks = parser.add_subparsers(dest="task", metavar="task", required=True)
    keygen = tasks.add_parser("keygen", help="make a key, and print its DNS record", description=KEYGEN)
    keygen.add_argument("domain", help="the signing domain, like example.org")
    keygen.add_argument("--selector", default="mail", help="the name of the key in the DNS (default: mail)")
    keygen.add_argument("--type", choices=["rsa", "ed25519"], default="rsa", help="the kind of the key (default: rsa)")
    keygen.add_argument("--bits", type=int, default=2048, help="the length of an RSA key, 1024 or more (default: 2048)")
    keygen.add_argument("--out", metavar="FILE", help="the new file for the private key (default: SELECTOR.private)")
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
