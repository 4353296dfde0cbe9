"""CPU a message of the blocking client beside smtplib, and its round trips.

    python benches/sync_client.py [--rounds 5] [--messages 400]

The server is Postfix' ``smtp-sink``, and for TLS one of ehlo: what it uses is not counted. A figure is the CPU time
of this process for a message, user and system, as a multiple of smtplib's: the median of some rounds, in each of which
every client sends in turn. smtplib sends what the others send, with the same recipients and over the same kind of
connection. For TLS, ``trustme`` makes the certificate. Where the system can, the clients have a processor of their own,
and the servers another. Build the extension with optimisation first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import smtplib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, process_time

import trustme

import ehlo
import ehlo.sync
from ehlo.bench._compare.children import bound
from ehlo.bench._compare.compare import processors
from ehlo.compat import smtplib as shape

SENDER = "a@b.example"
RECIPIENTS = ["c@d.example"]
THREE = ["c@d.example", "e@f.example", "g@h.example"]
HOST = "127.0.0.1"
CONFIG = ehlo.ClientConfig("client.example")
OURS, OTHERS = processors()

TLS_SERVER = """
import asyncio, ssl, sys, ehlo, ehlo.asyncio
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:])
    config = ehlo.ServerConfig("mx.example", content="discard", tls="implicit", max_messages=None)
    server = await ehlo.asyncio.serve(ehlo.Handler(), "127.0.0.1", int(sys.argv[1]), config=config, tls=context)
    await server.serve_forever()
asyncio.run(main())
"""

Sending = Callable[[int], None]
"""Sends so many messages."""


def message(octets: int) -> bytes:
    """A message of about so many octets, with CRLF line ends."""
    line = b"x" * 70 + b"\r\n"
    head = b"From: a@b.example\r\nTo: c@d.example\r\nSubject: hi\r\n\r\n"
    return head + line * ((octets - len(head)) // len(line))


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """A server, from when it accepts."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=bound(OTHERS))
    try:
        limit = monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                if monotonic() > limit or process.poll() is not None:
                    raise
        yield port
    finally:
        process.kill()
        process.wait()


def smtp_sink() -> contextlib.AbstractContextManager[int]:
    port = free_port()
    return running(["smtp-sink", "-u", "nobody", f"{HOST}:{port}", "100"], port)


@contextlib.contextmanager
def tls_sink() -> Iterator[tuple[int, ssl.SSLContext]]:
    """A server with implicit TLS that throws all away, and the context of a client that trusts it."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
        certificate = authority.issue_cert(HOST)
        chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        key.write_bytes(certificate.private_key_pem.bytes())
        port = free_port()
        command = [sys.executable, "-W", "ignore", "-c", TLS_SERVER, str(port), str(chain), str(key)]
        with running(command, port):
            yield port, context


# ---- the clients ---------------------------------------------------------------------------------


def kept(port: int, content: bytes, stack: contextlib.ExitStack, context: ssl.SSLContext | None) -> dict[str, Sending]:
    """Each client with one connection, which it keeps."""
    theirs: smtplib.SMTP
    ours: shape.SMTP
    if context is None:
        theirs, ours = smtplib.SMTP(HOST, port, "client.example"), shape.SMTP(HOST, port, "client.example")
        client = ehlo.sync.connect(HOST, port, config=CONFIG)
    else:
        theirs = smtplib.SMTP_SSL(HOST, port, "client.example", context=context)
        ours = shape.SMTP_SSL(HOST, port, "client.example", context=context)
        client = ehlo.sync.connect(HOST, port, config=CONFIG, tls="implicit", ssl_context=context)
    stack.enter_context(theirs)
    stack.enter_context(ours)
    stack.enter_context(client)

    def by_smtplib(count: int) -> None:
        for _ in range(count):
            theirs.sendmail(SENDER, RECIPIENTS, content)

    def by_send(count: int) -> None:
        for _ in range(count):
            client.send(content, SENDER, RECIPIENTS)

    def by_send_many(count: int) -> None:
        for _ in client.send_many((content, SENDER, RECIPIENTS) for _ in range(count)):
            pass

    def by_shape(count: int) -> None:
        for _ in range(count):
            ours.sendmail(SENDER, RECIPIENTS, content)

    return {"smtplib": by_smtplib, "send": by_send, "send_many": by_send_many, "shape": by_shape}


def anew(port: int, content: bytes) -> dict[str, Sending]:
    """Each client with a connection for each message."""

    def by_smtplib(count: int) -> None:
        for _ in range(count):
            with smtplib.SMTP(HOST, port, "client.example") as smtp:
                smtp.sendmail(SENDER, RECIPIENTS, content)

    def by_send(count: int) -> None:
        for _ in range(count):
            ehlo.send(content, HOST, port, SENDER, RECIPIENTS, config=CONFIG)

    def by_shape(count: int) -> None:
        for _ in range(count):
            with shape.SMTP(HOST, port, "client.example") as smtp:
                smtp.sendmail(SENDER, RECIPIENTS, content)

    return {"smtplib": by_smtplib, "send": by_send, "shape": by_shape}


# ---- measuring -----------------------------------------------------------------------------------


def measure(name: str, clients: dict[str, Sending], rounds: int, count: int) -> None:
    """Print the CPU time of each client as a multiple of smtplib's."""
    spent: dict[str, list[float]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client, send in clients.items():
            send(max(count // 20, 1))
            before = process_time()
            send(count)
            spent[client].append((process_time() - before) / count)
    base = statistics.median(spent["smtplib"])
    figures = "  ".join(
        f"{client} {statistics.median(times) / base:.2f}" for client, times in spent.items() if client != "smtplib"
    )
    print(f"{name:28} smtplib {base * 1e6:6.0f} µs  {figures}", flush=True)


class Turns:
    """A relay that counts how often the client speaks after the server did: that many times it waits."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._server = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, socket.create_connection((HOST, self._server)) as server:
                self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        spoke = server
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    octets = source.recv(65536)
                    if not octets:
                        return
                    if source is client and spoke is server:
                        self.count += 1
                    spoke = source
                    key.data.sendall(octets)


def count_turns(port: int, count: int) -> None:
    """Print the round trips a message for three recipients, over a kept connection."""
    content = message(1024)
    turns = Turns(port)

    def counted(work: Callable[[], object]) -> float:
        turns.count = 0
        work()
        return turns.count / count

    def times(send: Callable[..., object], *arguments: object) -> Callable[[], object]:
        return lambda: [send(*arguments) for _ in range(count)]

    found = {}
    for name, kind in (("smtplib", smtplib.SMTP), ("shape", shape.SMTP)):
        with kind(HOST, turns.port, "client.example") as smtp:
            smtp.ehlo()
            found[name] = counted(times(smtp.sendmail, SENDER, THREE, content))
    with ehlo.sync.connect(HOST, turns.port, config=CONFIG) as client:
        found["send"] = counted(times(client.send, content, SENDER, THREE))
        many = ((content, SENDER, THREE) for _ in range(count))
        found["send_many"] = counted(lambda: list(client.send_many(many)))
    print("round trips, 3 recipients   ", "  ".join(f"{client} {number:.1f}" for client, number in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=400)
    options = parser.parse_args()
    rounds, count = options.rounds, options.messages
    if OURS is not None:
        os.sched_setaffinity(0, OURS)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(smtp_sink())
        for octets, name in ((1024, "1 KiB"), (102400, "100 KiB")):
            content = message(octets)
            with contextlib.ExitStack() as clients:
                measure(f"{name} kept", kept(port, content, clients, None), rounds, count)
            measure(f"{name}, a connection each", anew(port, content), rounds, count // 2)
        count_turns(port, 50)
        tls_port, context = stack.enter_context(tls_sink())
        for octets, name in ((1024, "1 KiB"), (102400, "100 KiB")):
            with contextlib.ExitStack() as clients:
                measure(f"{name} kept, TLS", kept(tls_port, message(octets), clients, context), rounds, count)


if __name__ == "__main__":
    main()
