"""No secret comes out: not in an exception, a repr, a log line, a transcript or the output of a command (issue 12, 5).

Each test plants a secret of its own in a place where secrets come in, and reads everything that comes out: as it is, in
base64, and in hex.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import traceback
from pathlib import Path
from typing import Any

import pytest

import ehlo
import ehlo.asyncio
from ehlo.cli import main as command
from ehlo.testing import ScriptedServer, Wire

CLIENT = ehlo.ClientConfig("client.example")
ALL = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"]


@pytest.fixture
def secret() -> str:
    return f"s{secrets.token_hex(12)}t"


def leaks(secret: str, text: str) -> bool:
    """Whether a text shows a secret: clear, in hex, or inside base64 at any of the three places in a group."""
    octets = secret.encode()
    shapes = [secret, octets.hex(), octets.hex().upper()]
    for ahead in range(3):
        # The first and the last group depend on what stands beside.
        shapes.append(base64.b64encode(bytes(ahead) + octets).decode()[4:-4])
    return any(shape in text for shape in shapes)


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


def shown(error: BaseException) -> str:
    """All that an exception says, with those behind it."""
    parts = ["".join(traceback.format_exception(error))]
    for one in chain(error):
        parts += [
            str(one),
            repr(one),
            repr(one.args),
            repr(getattr(one, "__dict__", None)),
            *getattr(one, "__notes__", ()),
        ]
        parts.append(str(getattr(one, "transcript", "")))
    return "\n".join(parts)


def test_the_search_finds_what_it_is_for(secret: str) -> None:
    for text in (
        secret,
        secret.encode().hex(),
        *(base64.b64encode(b"x" * n + secret.encode() + b"yz").decode() for n in range(3)),
    ):
        assert leaks(secret, f"a {text} b")
    assert not leaks(secret, "nothing")


# ---- the client ----------------------------------------------------------------------------------

ENDS = {
    "a script that expects something else": "C: NOOP\nS: 250 ok",
    "something else later": "C: *\nS: 334 \nC: NOOP\nS: 250 ok",
    "refused": "C: *\nS: 535 5.7.8 no\nC: QUIT\nS: 221 bye\nclose",
    "closed": "C: *\nclose",
    "malformed": "C: *\nS: 999 what\nclose",
    "refused later": "C: *\nS: 334 \nC: *\nS: 535 5.7.8 no\nC: QUIT\nS: 221 bye\nclose",
    "a challenge that is none": "C: *\nS: 334 ?!\nC: *\nS: 501 no\nC: QUIT\nS: 221 bye\nclose",
    "endless challenges": "C: *\n" + "S: 334 eA==\nC: *\n" * 3 + "S: 535 5.7.8 no\nC: QUIT\nS: 221 bye\nclose",
    "says 501 to the first response": "C: *\nS: 334 eA==\nC: *\nS: 501 5.5.2 no\nC: QUIT\nS: 221 bye\nclose",
}


@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize("end", ENDS)
def test_client(mechanism: str, end: str, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    script = f"S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 AUTH {mechanism}\n{ENDS[end]}"
    by_token = mechanism in ("OAUTHBEARER", "XOAUTH2")
    given: dict[str, Any] = {"token": secret} if by_token else {"password": secret}
    login = ehlo.Login("jane", **given, mechanisms=[mechanism], allow_clear=True)
    said = [repr(login), str(login)]

    async def main(port: int) -> None:
        traced: list[str] = []
        opening: Any = ehlo.asyncio.connect("127.0.0.1", port, config=CLIENT, trace=traced.append, auth=login)
        said.append(repr(opening))
        pool = ehlo.asyncio.Pool("127.0.0.1", port, config=CLIENT, auth=login)
        said.append(repr(pool) + repr(vars(pool).get("_opening", "")) if hasattr(pool, "__dict__") else repr(pool))
        try:
            async with opening as client:
                said.append(client.transcript)
        except ehlo.EhloError as exc:
            said.append(shown(exc))
        said.extend(traced)

    with caplog.at_level(logging.DEBUG):
        server = ScriptedServer(script)
        try:
            with server:
                asyncio.run(main(server.port))
        except Exception as exc:  # the script may not be played to its end
            said.append(shown(exc))
        said.append(str(server.transcript))
    assert not leaks(secret, "\n".join([*said, caplog.text]))


@pytest.mark.parametrize("where", ["username", "password", "authzid", "token"])
@pytest.mark.parametrize("wrong", ["surrogate", "octets", "both"])
def test_a_login_that_is_wrong(where: str, wrong: str, secret: str) -> None:
    given: dict[str, Any] = {where: secret + "\ud800" if wrong == "surrogate" else secret.encode()}
    if wrong == "both":
        given = {"password": secret, "token": secret}
    with pytest.raises(ehlo.LocalProtocolError) as caught:
        ehlo.Login(**given)
    assert not leaks(secret, shown(caught.value))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("form", ["{}\x01", "{}\x00", "{}\ud800", "{}\u0627\u0061", "{}\u2028"])
def test_a_secret_that_a_mechanism_cannot_carry(name: str, form: str, secret: str) -> None:
    odd = form.format(secret)
    given: dict[str, Any] = {"token": odd} if name in ("OAUTHBEARER", "XOAUTH2") else {"password": odd}
    try:
        mechanism = ehlo.client_mechanism(name, username="jane", host="h", port=1, **given)
        said = repr(mechanism)
        mechanism.initial()
        mechanism.respond(b"")
        mechanism.respond(b"\xff")
    except ehlo.EhloError as exc:
        said = shown(exc)
    assert not leaks(secret, said)


# ---- the server ----------------------------------------------------------------------------------


class Fails(ehlo.Handler):
    """Answers AUTH in every wrong way."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[str] = []

    def on_auth(self, session: ehlo.Session, credentials: Any) -> Any:
        self.seen += [repr(credentials), str(credentials), repr(session)]
        if self.answer is Exception:
            raise RuntimeError("the directory is down")
        return self.answer

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
        pass


def lines(secret: str) -> dict[str, bytes]:
    """What a client may send, with the secret somewhere in it."""

    def b64(text: str) -> bytes:
        return base64.b64encode(text.encode("utf-8", "surrogatepass"))

    plain, alone = b64(f"\0jane\0{secret}"), b64(secret)
    return {
        "PLAIN": b"AUTH PLAIN " + plain,
        "PLAIN, two lines": b"AUTH PLAIN\r\n" + plain,
        "LOGIN": b"AUTH LOGIN\r\namFuZQ==\r\n" + alone,
        "LOGIN behind a 501": b"AUTH LOGIN\r\n?!\r\n" + alone,
        "LOGIN, name not base64": b"AUTH LOGIN amFu ZQ==\r\n" + alone + b"\r\n" + secret.encode(),
        "not base64": b"AUTH PLAIN " + plain[:-1] + b"\r\nAUTH PLAIN\r\n!" + plain,
        "clear for base64": b"AUTH PLAIN " + secret.encode() + b"\r\nAUTH LOGIN\r\n" + secret.encode(),
        "a lone surrogate": b"AUTH PLAIN " + b64(f"\0jane\0{secret}\ud800"),
        "not UTF-8": b"AUTH PLAIN " + base64.b64encode(b"\0jane\0\xff" + secret.encode()),
        "too many parts": b"AUTH PLAIN " + b64(f"\0jane\0{secret}\0{secret}"),
        "unknown mechanism": b"AUTH NOPE " + alone,
        "CRAM-MD5": b"AUTH CRAM-MD5\r\n" + alone,
        "SCRAM": b"AUTH SCRAM-SHA-256 " + b64(f"n,,n=jane,r={secret}") + b"\r\n" + b64(f"c=biws,r={secret},p={secret}"),
        "OAUTHBEARER": b"AUTH OAUTHBEARER " + b64(f"n,a=jane,\x01auth=Bearer {secret}\x01\x01"),
        "XOAUTH2": b"AUTH XOAUTH2 " + b64(f"user=jane\x01auth=Bearer {secret}\x01\x01"),
        "broken token": b"AUTH XOAUTH2 " + b64(f"user=jane\x01auth={secret}"),
        "too long": b"AUTH PLAIN " + plain + b"A" * 20000,
        "as a command": b"AUTH\r\n" + alone,
    }


@pytest.mark.parametrize("name", lines("x"))
def test_server(name: str, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    octets = lines(secret)[name] + b"\r\nNOOP\r\nQUIT\r\n"
    said: list[str] = []

    async def main() -> None:
        for answer in (None, Exception, "454 4.7.0 later", 7, True):
            handler = Fails(answer)
            config = ehlo.ServerConfig("mx.example", auth=ALL, auth_in_clear=ALL)
            limits = ehlo.Limits(auth_delay_seconds=0)
            async with await ehlo.asyncio.serve(handler, "127.0.0.1", 0, config=config, limits=limits) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                await reader.readline()
                writer.write(b"EHLO c.example\r\n")
                while (await reader.readline())[3:4] == b"-":
                    pass
                for line in octets.splitlines(keepends=True):
                    writer.write(line[:7])
                    await writer.drain()
                    writer.write(line[7:])
                    said.append((await reader.readline()).decode())
                writer.close()
            said.extend([*handler.seen, repr(server.statistics), repr(config)])

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    # The engine's events, and the transcript of a wire in memory.
    config = ehlo.ServerConfig("mx.example", auth=ALL, auth_in_clear=ALL)
    conn = ehlo.ServerConnection(config)
    wire = Wire(ehlo.ClientConnection(CLIENT), ehlo.ServerConnection(config))
    for line in (b"EHLO c.example\r\n" + octets).splitlines(keepends=True):
        conn.receive_data(line)
        said.extend(repr(event) for event in conn)
        wire.transcript.add("C", line)
        said.append(conn.data_to_send().decode())
        wire.transcript.add("S", said[-1].encode())
        if said[-1] == "" and not conn.closed:
            conn.reply(535, "5.7.8", "no")
            wire.transcript.add("S", conn.data_to_send())
    said += [str(wire.transcript), repr(conn), repr(wire)]
    spoken = "\n".join([*said, caplog.text])
    if name == "SCRAM":  # the nonce is the client's, and the server has to repeat it
        spoken = "\n".join(line for line in spoken.splitlines() if not line.startswith(("334 ", "S: 334 ")))
    assert not leaks(secret, spoken)


def test_scram_keys_and_hashes(secret: str) -> None:
    keys = ehlo.ScramKeys.from_password(secret, iterations=4096)
    assert not leaks(secret, repr(keys) + str(keys) + ehlo.hash_password(secret))
    for make in (ehlo.hash_password, ehlo.ScramKeys.from_password):
        try:
            said = repr(make(secret + "\ud800"))
        except (ehlo.EhloError, ValueError) as exc:
            said = shown(exc)
        assert not leaks(secret, said)


@pytest.mark.parametrize("form", ["{}", "jane:{}", "jane:{}:{}", ":{}", "jane:scrypt$1$2$3${}", "jane:{}\njane:{}"])
def test_users_file(form: str, secret: str, tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(form.replace("{}", secret) + "\n", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(ehlo.EhloError) as caught:
        ehlo.Users(path)
    assert not leaks(secret, shown(caught.value))


# ---- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["env", "file"])
@pytest.mark.parametrize(
    "options", [(), ("--tls", "required"), ("--allow-clear",), ("--auth", "XOAUTH2", "--allow-clear")]
)
@pytest.mark.parametrize("tail", ["", "\udcff", "\x00"])
def test_ehlo_send(
    by: str,
    options: tuple[str, ...],
    tail: str,
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if tail == "\x00" and by == "env":
        pytest.skip("no environment variable has a NUL")
    (tmp_path / "mail").write_bytes(b"Subject: hi\r\n\r\nhi\r\n")
    (tmp_path / "secret").write_bytes((secret + tail).encode("utf-8", "surrogateescape"))
    monkeypatch.setenv("SECRET", secret + (tail if by == "env" else ""))
    source = ["--password-env", "SECRET"] if by == "env" else ["--password-file", str(tmp_path / "secret")]
    hello = "S: 220 mx\nC: EHLO *\nS: 250-mx\nS: 250 AUTH PLAIN LOGIN XOAUTH2\n"
    server = ScriptedServer(f"{hello}C: *\nS: 535 5.7.8 no\nC: *\nS: 221 bye\nclose")
    said = []
    try:
        with server:
            place = ["--server", f"127.0.0.1:{server.port}", "--from", "a@b.example", "--to", "c@d.example"]
            arguments = ["send", *place, "--file", str(tmp_path / "mail"), "--user", "jane", "-v", *source, *options]
            assert run([*arguments, "--hostname", "c.example", "--timeout", "5"]) != 0
    except Exception as exc:  # the script may not be played to its end
        said.append(shown(exc))
    out = capfd.readouterr()
    assert not leaks(secret, "\n".join([out.out, out.err, *said, str(server.transcript)]))


def run(arguments: list[str]) -> int:
    """The status of a command, as the shell sees it."""
    try:
        return command(arguments)
    except SystemExit as exc:
        return int(exc.code or 0)


def test_ehlo_serve(secret: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    users = tmp_path / "users"
    users.write_text(f"jane:{secret}\n", encoding="utf-8")
    users.chmod(0o600)
    file = tmp_path / "serve.toml"
    for extra in ("", f"password = '{secret}'\n"):
        file.write_text(
            f'[auth]\nusers = "{users}"\n{extra}[deliver]\ndiscard = true\n[[listener]]\nport = 0\n', encoding="utf-8"
        )
        assert run(["serve", "--check", "--config", str(file)]) != 0
        out = capfd.readouterr()
        assert not leaks(secret, out.out + out.err)
