"""The tables of docs/limits.md hold: the same octets go to a Postfix and to a server of ours, and each answers as the
page says.
"""

from __future__ import annotations

import ast
import contextlib
import re
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ehlo
import ehlo.mta
from ehlo.testing import SMTPServer
from programs import PATIENCE, free_port, postfix, program, wait_until

PAGE = (Path(__file__).resolve().parents[2] / "docs/limits.md").read_text("utf-8")
COMMANDS = [b"EHLO client.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n"]
BEFORE = {"greeting": COMMANDS[:0], "EHLO": COMMANDS[:1], "MAIL": COMMANDS[:2], "DATA": COMMANDS}
# The table's Postfix. Newer versions differ in these defaults.
PLAIN = {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"}


class Row(NamedTuple):
    """A line of the table of replies."""

    after: str
    octets: bytes
    postfix: list[str]
    ehlo: list[str]
    settings: dict[str, Any]


def lines(pattern: str) -> list[list[str]]:
    """The cells of each line of a table whose first cell is like this."""
    found = re.findall(rf"^\| ((?:{pattern}) \|.*) \|$", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" |")] for line in found]


def sent(after: str, octets: str) -> bytes:
    """The octets of a cell, with their end."""
    written: bytes = ast.literal_eval(f'b"{octets.strip("`")}"')
    return written + (b"\r\n.\r\n" if after == "DATA" else b"\r\n")


def written(settings: str) -> dict[str, Any]:
    """The arguments of a cell; a dash means none."""
    call = ast.parse("dict()" if settings == "–" else f"dict({settings.strip('`')})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}


def codes_in(cell: str) -> list[str]:
    return re.findall(r"\d{3}", cell)


REPLIES = [
    Row(after, sent(after, octets), codes_in(theirs), codes_in(ours), written(settings))
    for after, octets, theirs, ours, settings in lines("greeting|EHLO|MAIL|DATA")
]
# By the setting of Postfix: the replies that it changes, by what is sent.
CHANGED: dict[str, dict[tuple[str, bytes], list[str]]] = {}
for setting, after, octets, reply in lines(r"`\w+=\w+`"):
    CHANGED.setdefault(setting.strip("`"), {})[after, sent(after, octets)] = codes_in(reply)


def codes(port: int, row: Row) -> list[str]:
    """The codes of the replies to a row's octets."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock, sock.makefile("rb") as replies:

        def reply() -> str:
            while (line := replies.readline())[3:4] == b"-":
                pass
            return line[:3].decode()

        reply()
        for command in BEFORE[row.after]:
            sock.sendall(command)
            assert reply()[0] in "23"
        sock.sendall(row.octets)
        found = []
        # A server that hangs up before it has read our QUIT resets the connection, behind its replies.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(b"QUIT\r\n")
        with contextlib.suppress(ConnectionResetError):
            while (line := replies.readline()) and not line.startswith(b"221 2.0.0"):
                if line[3:4] == b" ":
                    found.append(line[:3].decode())
        return found


@pytest.fixture(scope="module")
def other() -> Iterator[dict[str, int]]:
    """The ports of a Postfix, by the setting that each has; "" has none."""
    common = "".join(f"-o {name}={value} " for name, value in PLAIN.items())
    # Our own address is one of mynetworks, which the check of line ends leaves out.
    strict = "-o smtpd_forbid_bare_newline_exclusions= -o "
    names = ["", *CHANGED]
    listeners = [common + (strict + name if name else "") for name in names]
    # Nobody listens where it relays to: its mail stays in its queue.
    with postfix(free_port(), listeners=listeners) as server:
        yield dict(zip(names, server.ports, strict=True))


@pytest.fixture(scope="module")
def ours() -> Iterator[int]:
    with SMTPServer(config=ehlo.ServerConfig("mx.example")) as server:
        yield server.port


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: repr(row.octets))
def test_each_reply_is_that_of_the_page(other: dict[str, int], ours: int, row: Row) -> None:
    assert (codes(other[""], row), codes(ours, row)) == (row.postfix, row.ehlo)
    assert row.postfix != row.ehlo


@pytest.mark.parametrize("row", [row for row in REPLIES if row.settings], ids=lambda row: str(row.settings))
def test_the_setting_makes_us_answer_like_postfix(row: Row) -> None:
    with SMTPServer(config=ehlo.ServerConfig("mx.example", **row.settings)) as server:
        assert codes(server.port, row) == row.postfix


@pytest.mark.parametrize("setting", CHANGED)
def test_a_setting_of_postfix_changes_these_replies_and_no_others(other: dict[str, int], setting: str) -> None:
    found = {(row.after, row.octets): codes(other[setting], row) for row in REPLIES}
    plain = {(row.after, row.octets): row.postfix for row in REPLIES}
    assert {key: reply for key, reply in found.items() if reply != plain[key]} == CHANGED[setting]


def test_what_is_offered(other: dict[str, int]) -> None:
    [[_, both, _], [_, theirs, ours]] = lines("by both|by one")

    def offered(port: int) -> set[str]:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.ehlo("client.example")
            return {name.upper() for name in client.esmtp_features}

    assert offered(other[""]) == {*both.split(", "), *theirs.split(", "), "DSN"}
    for reports in (True, False):

        class Plain(ehlo.Handler):
            reports_delivery = reports

        with SMTPServer(Plain(), config=ehlo.ServerConfig("mx.example")) as server:
            assert offered(server.port) == {*both.split(", "), *ours.split(", ")} | ({"DSN"} if reports else set())


def test_a_sender_without_a_domain_is_completed() -> None:
    with postfix(free_port()) as server:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as client:
            client.sendmail("a", ["c@d.example"], b"Subject: x\r\n\r\nx\r\n")
        wait_until(lambda: bool(server.lines("from=<a@relay.example>")))


def test_the_defaults_are_those_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    postconf = program("postconf")
    (tmp_path / "main.cf").touch()
    seconds = {"s": 1, "h": 3600, "d": 86400}

    def number(cell: str) -> float:
        found = re.match(r"(\d+) ?([shd])?", cell)
        assert found
        return int(found[1]) * seconds.get(found[2], 1)

    limits, schedule, config = ehlo.mta.DeliveryLimits(), ehlo.mta.RetrySchedule(), ehlo.ServerConfig("mx.example")
    defaults = {
        "max_message_size": config.max_message_size,
        "max_connections_per_network": ehlo.Limits().max_connections_per_network,
        "recipients": limits.recipients,
        "intervals": schedule.intervals[-1],
        "null_lifetime": schedule.null_lifetime,
        "warn_after": schedule.warn_after,
    }
    shown = set()
    for parameter, theirs, name, ours in lines("`[a-z_]+`"):
        command = [postconf, "-c", str(tmp_path), "-d", "-h", parameter.strip("`")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert number(done.stdout) == number(theirs), parameter
        [option] = re.findall(r"\((\w+)=", name)
        assert defaults[option] == number(ours), option
        shown.add(option)
    assert shown == set(defaults)


def test_the_tables_are_there() -> None:
    """A table in another form would be no test."""
    assert len(REPLIES) > 20
    assert len(CHANGED) == 3
