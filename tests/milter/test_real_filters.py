"""Filters that we did not write: OpenDKIM, OpenDMARC, rspamd and one in Python; and OpenDKIM behind Postfix, too."""

from __future__ import annotations

import contextlib
import re
import smtplib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from served import Keep, codes, send, serve

import ehlo
import ehlo.asyncio
from backends import Asyncio, Backend
from ehlo.dkim import Signer, dns_record, generate_key, write_key
from ehlo.milter.filters import Filters, Milter
from messages import message, on_the_wire
from programs import await_port, free_port, postfix, program, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "dkim"))

pytestmark = pytest.mark.tcp


@contextlib.contextmanager
def running(*command: str | Path, ready: Path | int) -> Iterator[None]:
    """A program in the foreground; it is ready when the socket is there, or somebody listens on the port."""
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            if isinstance(ready, int):
                await_port(ready)
            else:
                wait_until(ready.exists)
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name, for Unix sockets, that another user can reach."""
    with tempfile.TemporaryDirectory(prefix="ehlo-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def opendkim(place: Path, settings: str, port: int | None = None) -> Iterator[Milter]:
    command = program("opendkim")
    name = "sign" if "Mode s" in settings else "verify"
    address = f"local:{place}/{name}" if port is None else f"inet:{port}@127.0.0.1"
    config = place / f"{name}.conf"
    config.write_text(f"{settings}\nSocket {address}\nSyslog no\nBackground no\nUMask 000\n")
    with running(command, "-f", "-x", config, ready=place / name if port is None else port):
        yield Milter(address=address)


def signing(place: Path, key: ehlo.dkim.Key) -> str:
    if not (place / "key").exists():
        write_key(key, place / "key")
    return (
        f"Mode s\nDomain example.org\nSelector mail\nKeyFile {place}/key\nRequireSafeKeys no\n"
        "Canonicalization relaxed/relaxed\nInternalHosts 0.0.0.0/0\nSendReports no"
    )


def verifying(place: Path, **keys: ehlo.dkim.Key) -> str:
    records = "".join(f"{name}._domainkey.example.org {dns_record(key)}\n" for name, key in keys.items())
    (place / "keys").write_text(records)
    return f"Mode v\nTestPublicKeys {place}/keys\nAuthservID mx.example\nAlwaysAddARHeader yes"


def verdicts(content: bytes) -> list[str]:
    section = content.partition(b"\r\n\r\n")[0]
    field = re.search(rb"(?im)^Authentication-Results:((?:[^\r\n]|\r\n[ \t])*)", section)
    assert field is not None, section
    return [one.result for one in ehlo.dkim.parse_authentication_results(field[1])[1] if one.method == "dkim"]


def test_opendkim_signs_and_another_one_verifies(backend: Backend, place: Path) -> None:
    key, keep = generate_key(), Keep()
    content = b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n"
    with opendkim(place, signing(place, key)) as signer, opendkim(place, verifying(place, mail=key)) as verifier:
        replies = serve(
            backend, Filters([signer, verifier], keep), lambda client: [send(client, content) for _ in "ab"]
        )
    assert [codes(one) for one in replies[0]] == [[250] * 4] * 2
    for _, _, kept in keep.kept:
        assert kept.count(b"DKIM-Signature:") == 1
        assert kept.endswith(content)
        assert verdicts(kept) == ["pass"]


def test_opendkim_by_tcp(place: Path) -> None:
    key, keep = generate_key(), Keep()
    with opendkim(place, signing(place, key), free_port()) as signer:
        serve(Asyncio(), Filters([signer], keep), lambda client: send(client, b"From: a@example.org\r\n\r\nx\r\n"))
    assert keep.kept[0][2].startswith(b"DKIM-")


@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_opendkim_verifies_random_messages_of_ours(header: str, body: str, place: Path) -> None:
    key, keep = generate_key(), Keep()
    signer = Signer(key, "example.org", "mail", header=header, body=body)  # type: ignore[arg-type]
    random = Random(f"{header}/{body}")
    contents = [on_the_wire(message(random)) for _ in range(150)]

    def talk(client: smtplib.SMTP) -> None:
        client.ehlo("client.example")
        for one in contents:
            assert client.sendmail("a@example.org", ["c@d.example"], signer.sign(one) + one) == {}

    with opendkim(place, verifying(place, mail=key)) as verifier:
        serve(Asyncio(), Filters([verifier], keep), talk)
    assert len(keep.kept) == 150
    for (_, _, kept), content in zip(keep.kept, contents, strict=True):
        assert verdicts(kept) == ["pass"], content


def fields_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of the fields, without what differs between two MTAs and two moments."""
    section = content.partition(b"\r\n\r\n")[0]
    fields = re.findall(rb"(?m)^([!-9;-~]+):((?:[^\r\n]|\r\n[ \t])*)", section)
    gone = re.compile(rb"(\bt=\d+;|\bb=[^;]*$|\s)")
    return [
        (name, gone.sub(b"", value.rstrip(b"\r")))
        for name, value in fields
        if name not in (b"Received", b"DKIM-Filter")
    ]


def test_the_same_opendkim_behind_postfix_and_behind_us(place: Path) -> None:
    key, keep, relayed = generate_key(), Keep(), Keep()
    random = Random(16)
    claims = b"Authentication-Results: mx.example; dkim=pass\r\n"
    contents = []
    for number in range(40):
        content = on_the_wire(message(random))
        content = (claims if number % 3 == 0 else b"") + b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n" + content
        content = b"Message-ID: <%d@example.org>\r\nTo: c@d.example\r\n" % number + content
        contents.append(Signer(key, "example.org", "mail").sign(content) + content)

    def talk(client: smtplib.SMTP) -> None:
        client.ehlo("client.example")
        for one in contents:
            client.mail("a@example.org", ["BODY=8BITMIME"])
            client.rcpt("c@d.example")
            assert client.data(one)[0] == 250

    settings = verifying(place, mail=key) + "\nRemoveARFrom mx.example"
    with opendkim(place, settings, free_port()) as verifier:
        serve(Asyncio(), Filters([verifier], keep), talk)
        port = verifier.address.partition(":")[2].partition("@")[0]
        ready, over = threading.Event(), threading.Event()
        ports: list[int] = []

        def relay() -> None:
            async def main() -> None:
                async with await backend.serve(relayed, "127.0.0.1", 0) as server:
                    ports.append(int(server.addresses[0][1]))
                    ready.set()
                    await backend.thread(over.wait)

            backend = Asyncio()
            backend.run(main)

        thread = threading.Thread(target=relay)
        thread.start()
        try:
            assert ready.wait(20)
            with postfix(ports[0]) as mta:
                settings = (mta.log.parent / "etc/main.cf").read_text()
                settings += f"smtpd_milters = inet:127.0.0.1:{port}\nmilter_default_action = tempfail\n"
                settings += "local_header_rewrite_clients =\n"  # else it changes addresses, and breaks signatures
                (mta.log.parent / "etc/main.cf").write_text(settings)
                subprocess.run(
                    [program("postfix"), "-c", mta.log.parent / "etc", "reload"], check=True, capture_output=True
                )
                with smtplib.SMTP("127.0.0.1", mta.port, timeout=20) as client:
                    talk(client)
                wait_until(lambda: len(relayed.kept) == len(contents))
        finally:
            over.set()
            thread.join(20)
    by_id = {re.search(rb"Message-ID: <(\d+)@", kept)[1]: kept for _, _, kept in relayed.kept}  # type: ignore[index]
    for number, (_, _, ours) in enumerate(keep.kept):
        assert fields_of(ours) == fields_of(by_id[b"%d" % number])
        assert verdicts(ours) == ["pass"]


def test_opendmarc(backend: Backend, place: Path) -> None:
    command, keep = program("opendmarc"), Keep()
    config = place / "dmarc.conf"
    config.write_text(f"Socket local:{place}/dmarc\nAuthservID mx.example\nBackground false\nUMask 000\nSyslog false\n")
    content = b"From: a@localhost\r\nSubject: x\r\n\r\nbody\r\n"
    with running(command, "-f", "-c", config, ready=place / "dmarc"):
        serve(backend, Filters([f"unix:{place}/dmarc"], keep), lambda client: send(client, content))
    assert keep.kept[0][2].endswith(content)


PURE = """\
import asyncio, sys
import purepythonmilter as ppm

async def on_mail_from(cmd: ppm.MailFrom) -> ppm.VerdictOrContinue:
    return ppm.RejectWithCode(primary_code=(5, 5, 3), enhanced_code=(5, 1, 8), text="by Python") \\
        if "bad" in cmd.address else ppm.Continue()

async def on_end_of_message(cmd: ppm.EndOfMessage) -> ppm.Accept:
    return ppm.Accept(manipulations=[ppm.AppendHeader(headername="X-Pure", headertext="yes")])

milter = ppm.PurePythonMilter(name="pure", hook_on_mail_from=on_mail_from,
    hook_on_end_of_message=on_end_of_message, can_add_headers=True)
milter.run_server(host="127.0.0.1", port=int(sys.argv[1]))
"""


def test_a_filter_written_in_python(backend: Backend, place: Path) -> None:
    pytest.importorskip("purepythonmilter")
    script, port, keep = place / "pure.py", free_port(), Keep()
    script.write_text(PURE)

    def talk(client: smtplib.SMTP) -> object:
        client.ehlo("client.example")
        refused = client.mail("bad@b.example")
        assert refused == (553, b"5.1.8 by Python")
        client.rset()
        return codes(send(client))[-1]

    with running(sys.executable, script, str(port), ready=port):
        assert serve(backend, Filters([f"inet:127.0.0.1:{port}"], keep), talk, talk) == [250, 250]
    assert [b"\r\nX-Pure: yes\r\n\r\n" in content for _, _, content in keep.kept] == [True, True]
