"""[[dkim]] of `ehlo serve`: whose mail is signed, with which keys, and what goes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from site_kit import connect, site, tell

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.settings import read_settings
from ehlo.cli._serve.signing import author_of
from ehlo.cli._serve.site import Site
from ehlo.testing import SMTPServer
from loops import LOOPS, run

dkim = pytest.importorskip("dkim")
pytest.importorskip("cryptography")

from ehlo.dkim import Key, dns_record, generate_key, write_key  # noqa: E402

CONTENT = b"From: Jane <jane@example.org>\r\nTo: c@far.example\r\nSubject: hi\r\n\r\ntext\r\n"


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return {"mail": generate_key(), "ed": generate_key("ed25519")}


def tables(
    folder: Path, hop: SMTPServer, keys: dict[str, Key], *, queued: bool = True, **changes: Any
) -> dict[str, Any]:
    for name, key in keys.items():
        if not (folder / name).exists():
            write_key(key, folder / name)
    users = folder / "users"
    if not users.exists():
        users.write_text(f"jane@example.org:{ehlo.hash_password('x')}\n")
        users.chmod(0o600)
    way = {"from": ["users", "127.0.0.2/32"], "to": f"smtp:127.0.0.1:{hop.port}", "tls": "off"}
    values: dict[str, Any] = {
        "auth": {"users": "users", "in_clear": True, "from": "own"},
        "dkim": [{"domain": "example.org", "selector": name, "key": name} for name in keys],
        "route": [{"domains": ["far.example"], "to": way["to"], "tls": "off"}, way],
        "listener": [{"port": 0, "protocol": "submission"}, {"port": 0}],
    }
    return values | ({"queue": {"path": "spool"}} if queued else {}) | changes


def verified(content: bytes, keys: dict[str, Key]) -> list[bytes]:
    """The selectors of the signatures, all of which dkimpy finds good."""
    verifier = dkim.DKIM(content, minkey=1024)

    def record(name: bytes, timeout: int = 5) -> bytes:
        return dns_record(keys[name.partition(b".")[0].decode()]).encode()

    count = len(re.findall(rb"(?m)^DKIM-Signature:", content))
    assert all(verifier.verify(number, dnsfunc=record) for number in range(count))
    return re.findall(rb"\bs=(\w+);", content)


LOGIN = ehlo.Login("jane@example.org", "x", allow_clear=True)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("queued", [True, False])
def test_mail_of_users_gets_both_signatures(loop: str, queued: bool, keys: dict[str, Key], tmp_path: Path) -> None:
    async def main() -> None:
        async with site(loop, tables(tmp_path, hop, keys, queued=queued), str(tmp_path)) as (submission, smtp):
            async with await connect(loop, submission, auth=LOGIN) as client:
                assert (await tell(client, "jane@example.org", ["c@far.example"], CONTENT))["c@far.example"].code == 250
            async with await connect(loop, smtp) as client:  # a stranger who says to be jane
                assert (await tell(client, "jane@example.org", ["c@far.example"], CONTENT))["c@far.example"].code == 250
            while len(hop.messages) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.005)

    with SMTPServer() as hop:
        run(loop, main)
    mine, stranger = sorted((one.content for one in hop.messages), key=lambda one: b"DKIM-" not in one)
    assert verified(mine, keys) == [b"mail", b"ed"]
    assert re.search(rb"(?i)\r\nmessage-id: ", mine)  # what submission adds is signed, too
    assert mine.startswith(b"Received:")
    assert b"DKIM-Signature" not in stranger


@pytest.mark.parametrize(
    ("author", "user", "signatures"),
    [
        ("jane@example.org", "jane@example.org", 2),
        ('"x@evil.example" <JANE@Example.ORG>', "jane@example.org", 2),
        ("joe@example.org", "jane@example.org", 0),  # [auth] from = "own" counts for the From field, too
        ("jane@other.example", "jane@example.org", 0),
        ("jane@sub.example.org", "jane@example.org", 0),
        ("jane@example.org, joe@example.org", "jane@example.org", 0),
    ],
)
def test_the_from_field_decides(author: str, user: str, signatures: int, keys: dict[str, Key], tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            site("asyncio", tables(tmp_path, hop, keys, queued=False), str(tmp_path)) as (submission, _),
            await connect("asyncio", submission, auth=LOGIN) as client,
        ):
            content = b"From: " + author.encode() + b"\r\nSubject: x\r\n\r\ntext\r\n"
            assert (await tell(client, user, ["c@far.example"], content))["c@far.example"].code == 250

    with SMTPServer() as hop:
        run("asyncio", main)
        assert len(verified(hop.messages[0].content, keys)) == signatures


def test_networks_and_what_others_read_in_another_way(
    keys: dict[str, Key], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = {"domain": "example.org", "selector": "mail", "key": "mail", "from": ["127.0.0.0/8"], "body": "simple"}
    odd = b"Subject : x\r\nFrom: Jane <jane@example.org>\r\n\r\na\rb\nc\r\n"

    async def main() -> None:
        values = tables(tmp_path, hop, keys, queued=False, dkim=[one])
        async with site("asyncio", values, str(tmp_path)) as (_, smtp), await connect("asyncio", smtp) as client:
            for content in (odd, b"no field\r\n" + CONTENT):
                await tell(client, "jane@example.org", ["c@far.example"], content)

    with SMTPServer(config=ehlo.ServerConfig("hop.example", bare_newlines="allow")) as hop:
        run("asyncio", main)
        first, second = (message.content for message in hop.messages)
    assert verified(first, keys) == [b"mail"]
    assert first.endswith(b"\r\na\r\nb\r\nc\r\n")
    assert b"DKIM-Signature" not in second
    assert second.endswith(CONTENT)
    assert "a message of a user goes out without a signature: " in caplog.text


def test_sighup_reads_the_keys_again(keys: dict[str, Key], tmp_path: Path) -> None:
    with SMTPServer() as hop:
        settings = {"hostname": "mx.example"} | tables(tmp_path, hop, keys)
        read = Site.open(read_settings(settings, str(tmp_path)))
        old = read.signing
        (tmp_path / "mail").unlink()
        write_key(generate_key("ed25519"), tmp_path / "mail")
        assert read.reload(read_settings(settings, str(tmp_path))) == []
        assert [str(one.signer).split()[1] for one in read.signing.domains["example.org"]] == ["ed25519-sha256"] * 2
        assert read.signing is not old
        (tmp_path / "mail").write_text("no key")
        with pytest.raises(UsageError, match=r"\[\[dkim\]\] 1: this is no private key"):
            read.reload(read_settings(settings, str(tmp_path)))
        assert len(read.signing.domains["example.org"]) == 2


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"key": "mail"}, r"\[\[dkim\]\] 1: domain is missing"),
        ({"domain": "example.org"}, r"\[\[dkim\]\] 1: key is missing"),
        ({"domain": "example.org", "key": "nothing"}, "nothing: No such file"),
        ({"domain": "example.org", "key": "mail", "selector": "a b"}, "is no selector"),
        ({"domain": "example.org", "key": "mail", "from": "anybody"}, "must not be anybody"),
    ],
)
def test_wrong_settings(table: dict[str, Any], text: str, keys: dict[str, Key], tmp_path: Path) -> None:
    write_key(keys["mail"], tmp_path / "mail")
    values = {"hostname": "mx.example", "dkim": [table], "route": [{"to": "discard"}], "listener": [{"port": 0}]}
    with pytest.raises(UsageError, match=text):
        Site.open(read_settings(values, str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ([b"From: a@b.example"], "a@b.example"),
        ([b"FROM:\r\n =?utf-8?q?J=C3=A4ne?= <a@b.example>"], "a@b.example"),
        ([b"From: a@b.example", b"from: c@d.example"], None),
        ([b"From: undisclosed:;"], None),
        ([b"From: \xff\xfe <"], None),
        ([b"From:"], None),
        ([b"Subject: x"], None),
    ],
)
def test_author(fields: list[bytes], address: str | None) -> None:
    assert author_of(fields) == address
