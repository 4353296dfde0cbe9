"""docs/first-hour.md, as an administrator follows it: its files, its commands, and what comes of them."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from ehlo.bench._compare.own_postfix import OwnPostfix
from ehlo.testing import SMTPServer
from programs import AS_ROOT, free_port, postfix, program, run, wait_until

PAGE = Path(__file__).resolve().parents[3] / "docs" / "first-hour.md"
BLOCK = re.compile(
    r"^<!-- (?P<kind>[a-z]+)(?:: (?P<value>.+?))? -->\n```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PORTS = ("2525", "5587", "5465", "2526")
NOBODY = {"nobody@elsewhere.example": "550 5.1.1 no such user here"}


@dataclass
class Hour:
    """The folder of the administrator, and the rest of the world."""

    folder: Path
    ports: dict[str, int]
    world: SMTPServer
    env: dict[str, str]
    server: subprocess.Popen[str] | None = None

    def fit(self, text: str) -> str:
        """Ports that are free here; and the option that tests as root need."""
        # All at once: the digits of a port of ours may hold one of the page.
        text = re.sub("|".join(self.ports), lambda found: str(self.ports[found[0]]), text)
        return text.replace("ehlo serve serve.toml", " ".join(["ehlo serve", *AS_ROOT, "serve.toml"]))

    def shell(self, text: str, status: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-ec", self.fit(text)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{text}\n{done.stdout}"
        return done.stdout

    def start(self, text: str) -> None:
        self.server = subprocess.Popen(
            ["sh", "-c", f"exec {self.fit(text).strip()}"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.server.stdout is not None
        for _ in range(3):
            assert "listening on" in self.server.stdout.readline()

    def end(self) -> str:
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        output, _ = self.server.communicate(timeout=30)
        assert self.server.returncode == 0, output
        return output

    def mail(self, mailbox: str) -> dict[str, Message]:
        """What is in a mailbox, by Subject."""
        files = (self.folder / "mail" / mailbox).glob("*/*")
        found = [message_from_bytes(file.read_bytes()) for file in files if file.parent.name != "tmp"]
        return {message["Subject"]: message for message in found}

    def went_out(self) -> set[str]:
        """The subjects of the messages that reached the rest of the world."""
        return {message_from_bytes(one.content)["Subject"] for one in self.world.messages}


@pytest.fixture
def hour(tmp_path: Path) -> Iterator[Hour]:
    for name in ("swaks", "curl", "msmtp", "mutt", "openssl", "script"):
        program(name)
    with SMTPServer() as world, postfix(world.port, refused=NOBODY) as out:
        ports = {name: free_port() for name in PORTS[:3]} | {"2526": out.port}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "xterm"}
        made = Hour(tmp_path, ports, world, env)
        yield made
        if made.server is not None and made.server.poll() is None:
            made.server.kill()
            made.server.communicate()


def thunderbird(hour: Hour) -> None:
    """The dialogue of Thunderbird 115 with STARTTLS and "Normal password", line by line."""
    context = ssl.create_default_context(cafile=str(hour.folder / "cert.pem"))
    secret = base64.b64encode(b"\0jane@example.org\0correct horse battery").decode()
    content = (
        "Message-ID: <5f3c@example.org>\r\nDate: Sat, 28 Nov 2026 09:00:00 +0100\r\nMIME-Version: 1.0\r\n"
        "User-Agent: Mozilla Thunderbird\r\nContent-Language: en-US\r\nTo: b@elsewhere.example\r\n"
        "From: Jane <jane@example.org>\r\nSubject: out by Thunderbird\r\n"
        "Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüße\r\n"
    ).encode()
    with contextlib.ExitStack() as stack:
        sock: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", hour.ports["5587"]), 20))
        lines = sock.makefile("rb")

        def ask(line: bytes | None) -> str:
            if line is not None:
                sock.sendall(line)
            reply = b""
            while not re.match(rb"(?s)(?:.*\n)?\d{3} [^\n]*\n$", reply):
                more = lines.readline()
                assert more, reply
                reply += more
            return reply.decode()

        assert ask(None).startswith("220 mx.example.org ESMTP")
        assert "STARTTLS" in ask(b"EHLO [192.168.1.2]\r\n")
        assert ask(b"STARTTLS\r\n").startswith("220")
        sock = stack.enter_context(context.wrap_socket(sock, server_hostname="mx.example.org"))
        lines = sock.makefile("rb")
        offer = ask(b"EHLO [192.168.1.2]\r\n")
        assert re.search(r"250[- ]AUTH .*\bPLAIN\b", offer)
        assert "250-8BITMIME" in offer
        assert "250-SIZE " in offer
        assert ask(f"AUTH PLAIN {secret}\r\n".encode()).startswith("235")
        mail = f"MAIL FROM:<jane@example.org> BODY=8BITMIME SIZE={len(content)}\r\n"
        assert ask(mail.encode()).startswith("250")
        assert ask(b"RCPT TO:<b@elsewhere.example>\r\n").startswith("250")
        assert ask(b"DATA\r\n").startswith("354")
        assert ask(content + b".\r\n").startswith("250 2.0.0 queued as ")
        assert ask(b"QUIT\r\n").startswith("221")


def read_in_mutt(hour: Hour, command: str) -> str:
    """What the terminal shows when the last message is opened."""
    with subprocess.Popen(
        ["script", "-qec", f"{command.strip()} -R", "/dev/null"],
        cwd=hour.folder,
        env={**hour.env, "LINES": "60", "COLUMNS": "200"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        shown = b""
        # "*": the last message; Enter: open it; "q": back to the list; "x": leave.
        for until, keys in ((b"Msgs:", b"*\r"), (b"nobody@elsewhere.example", b"q"), (b"Msgs:", b"x")):
            part = b""
            while until not in part:
                assert process.stdout is not None
                more = process.stdout.read(4096)
                assert more, shown + part
                part += more
            shown += part
            assert process.stdin is not None
            process.stdin.write(keys)
    return re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))


def from_postfix(hour: Hour, inward: OwnPostfix) -> None:
    """A Postfix with our two domains in its transport table brings a message."""
    server = f"127.0.0.1:{inward.port}"
    header = ("--header", "Subject: by Postfix")
    run(program("swaks"), "--server", server, "--from", "a@elsewhere.example", "--to", "joe@example.com", *header)


@pytest.mark.slow
@pytest.mark.timeout(900)  # many programs are started, which a busy machine does slowly
def test_the_first_hour(hour: Hour) -> None:
    bounce = ""
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        kind, value, text = found["kind"], found["value"], found["text"]
        match kind:
            case "file":
                (hour.folder / value).write_text(hour.fit(text))
            case "run":
                output = hour.shell(text, int(value.removeprefix("status ")) if value else 0)
                if "--check" in text:
                    assert "error:" not in output
            case "start":
                hour.start(text)
            case "mutt":
                wait_until(lambda: any("nobody" in str(one) for one in hour.mail("example.org/jane").values()))
                bounce = read_in_mutt(hour, text)
            case _:
                pytest.fail(f"what is <!-- {kind} -->?")
    with postfix(hour.ports["2525"]) as inward:
        from_postfix(hour, inward)
        wait_until(lambda: "by Postfix" in hour.mail("example.com/joe"))
    thunderbird(hour)
    sent = {f"out by {name}" for name in ("swaks", "curl", "msmtp", "mutt", "Thunderbird")}
    wait_until(lambda: hour.went_out() >= sent)
    assert {"by swaks", "by curl"} <= hour.mail("example.org/jane").keys()
    assert {"by curl", "by Postfix", "out by msmtp"} <= hour.mail("example.com/joe").keys()
    assert "no such user here" in bounce, bounce
    assert "nobody@elsewhere.example" in bounce
    hour.end()
