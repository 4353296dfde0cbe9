"""Filters that we did not write, started on loopback without root rights; and what tests read of their work."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ehlo
from ehlo.dkim import dns_record, write_key
from ehlo.milter.filters import Milter
from programs import await_listener, program


@contextlib.contextmanager
def running(*command: str | Path, ready: Path | int, with_children: bool = False) -> Iterator[None]:
    """A program in the foreground. It is ready when somebody listens on this port or path.

    It is killed at the end, since libmilter takes 5 s to stop. One with children is asked to end.
    """
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            await_listener(ready)
            yield
        finally:
            (process.terminate if with_children else process.kill)()
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
    """What the verifier found of each signature, from the top."""
    section = content.partition(b"\r\n\r\n")[0]
    fields = re.findall(rb"(?im)^Authentication-Results:((?:[^\r\n]|\r\n[ \t])*)", section)
    assert fields, section
    found = [one for field in fields for one in ehlo.dkim.parse_authentication_results(field)[1]]
    return [one.result for one in found if one.method == "dkim"]


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


@contextlib.contextmanager
def opendmarc(place: Path, **policies: str) -> Iterator[Milter]:
    """OpenDMARC that rejects. Arguments: the policy of each domain, with "_" for ".". It asks no DNS."""
    records = "".join(f"_dmarc.{name.replace('_', '.')} v=DMARC1; p={policy}\n" for name, policy in policies.items())
    (place / "records").write_text(records)
    (place / "ignored").write_text("192.0.2.1\n")  # without it, it would ignore the loopback
    (place / "dmarc.conf").write_text(
        f"Socket local:{place}/dmarc\nAuthservID mx.example\nTrustedAuthservIDs mx.example\nRejectFailures true\n"
        f"IgnoreHosts {place}/ignored\nTestDNSData {place}/records\nBackground false\nUMask 000\nSyslog false\n"
    )
    with running(program("opendmarc"), "-f", "-c", place / "dmarc.conf", ready=place / "dmarc"):
        yield Milter(address=f"unix:{place}/dmarc")


RSPAMD = """\
options {{
    pidfile = "{place}/pid"; tempdir = "{place}"; hs_cache_dir = "{place}"; filters = ""; enable_test_patterns = true;
    url_tld = "{place}/suffixes"; control_socket = "{place}/control mode=0600";
    dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
metric {{ name = "default"; actions {{ reject = 15; "add header" = 6; "rewrite subject" = 10; }} }}
worker "rspamd_proxy" {{
    bind_socket = "{place}/rspamd mode=0666"; milter = yes; count = 1; timeout = 20s;
    upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


@contextlib.contextmanager
def rspamd(place: Path) -> Iterator[Milter]:
    """The proxy of rspamd, which scans by itself and knows test patterns only."""
    command: list[str | Path] = [program("rspamd")]
    folder = place / "rspamd.d"
    folder.mkdir()
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("rspamd is not run as root, and there is no setpriv")
        command = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        os.chown(folder, 65534, 65534)
    (folder / "suffixes").write_text("example\norg\n")  # it takes 20 s to compile all that there are
    (folder / "rspamd.conf").write_text(RSPAMD.format(place=folder))
    with running(*command, "-f", "-c", folder / "rspamd.conf", ready=folder / "rspamd", with_children=True):
        yield Milter(address=f"unix:{folder}/rspamd")
