"""Filters that we did not write, each alone: OpenDKIM, rspamd and one in Python. OpenDMARC is in test_filter_chains."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from real import opendkim, place, rspamd, running, signing, verdicts, verifying
from served import Keep, codes, send, serve

from backends import Asyncio, Backend
from ehlo.dkim import Signer, generate_key
from ehlo.milter.filters import Filters, Milter
from messages import message, on_the_wire
from programs import free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "dkim"))

pytestmark = pytest.mark.tcp
__all__ = ["place"]  # a fixture


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


def test_opendkim_is_not_waited_for_in_a_second_session(backend: Backend, place: Path) -> None:
    """A filter with libmilter ignores the end of most sessions on a connection, and would never answer the next one."""
    keep = Keep()

    def no_mail(client: smtplib.SMTP) -> int:
        return client.ehlo("client.example")[0]

    def two_mails(client: smtplib.SMTP) -> list[int]:
        return [codes(send(client))[-1] for _ in "ab"]

    with opendkim(place, verifying(place)) as verifier:
        patient = Milter(address=verifier.address, command_timeout=3600)
        replies = serve(backend, Filters([patient], keep), no_mail, two_mails, no_mail, two_mails, no_mail)
    assert replies == [250, [250, 250], 250, [250, 250], 250]


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


# Patterns that rspamd knows for tests: reject, add a header field, change the subject.
GTUBE = b"%cJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def test_rspamd(backend: Backend, place: Path) -> None:
    keep = Keep()
    head = b"From: a@example.org\r\nSubject: x\r\nMessage-ID: <1@example.org>\r\n\r\n"

    def talk(client: smtplib.SMTP) -> list[int]:
        bodies = [b"ham", *(GTUBE % kind for kind in b"XYZ")]
        return [codes(send(client, head + body + b"\r\n"))[-1] for body in bodies]

    with rspamd(place) as filter_address:
        assert serve(backend, Filters([filter_address], keep), talk, talk) == [[250, 550 + 4, 250, 250]] * 2
    contents = [content.partition(b"\r\n\r\n")[0].lower() for _, _, content in keep.kept]
    ham, spam, subject = contents[:3]
    assert b"\nx-spam" not in ham
    assert b"\nx-spam: yes" in spam
    assert b"subject: x" not in subject
    assert len(contents) == 6


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


PYMILTER = """\
import Milter, sys

class OneSession(Milter.Base):
    def hello(self, name):
        return Milter.CONTINUE
    def eom(self):
        self.addheader("X-Pymilter", "yes")
        return Milter.CONTINUE

Milter.factory = OneSession
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("one", "unix:" + sys.argv[1], 60)
"""


def test_a_filter_with_pymilter_serves_each_session(backend: Backend, place: Path) -> None:
    """It asks to hear of no connection, and forgets all at the end of the first session."""
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import Milter"], capture_output=True, check=False).returncode:
        pytest.skip("python3-milter is not installed")
    script, socket, keep = place / "one.py", place / "one", Keep()
    script.write_text(PYMILTER)

    def talk(client: smtplib.SMTP) -> object:
        return codes(send(client))[-1]

    with running(python, script, str(socket), ready=socket):
        assert serve(backend, Filters([f"unix:{socket}"], keep), talk, talk, talk) == [250, 250, 250]
    assert [b"\r\nX-Pymilter: yes\r\n" in content for _, _, content in keep.kept] == [True, True, True]
