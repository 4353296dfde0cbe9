"""Runs the code blocks of README.md and of the pages below docs/, in a world on loopback."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import importlib.util
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

import ehlo
import ehlo.asyncio
import ehlo.sync
from ehlo.testing import SMTPServer
from programs import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

Backend = Literal["asyncio", "trio"]
MESSAGE = b"Subject: hi\r\n\r\nhello\r\n"


def tool(name: str) -> ModuleType:
    """A program of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: str) -> str:
    """README.md, or a page below docs/."""
    return (ROOT / page if page == "README.md" else DOCS / page).read_text("utf-8")


def blocks(page: str, language: str = "python") -> list[str]:
    """The code blocks of a page, in order."""
    found = re.findall(rf"^( *)```{language}(?: [^\n]*)?\n(.*?)^ *```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def executed(*codes: str, backend: Backend = "asyncio", where: str = "page", **given: Any) -> dict[str, Any]:
    """Runs blocks one after the other; gives the names that they made, with those that were given. For trio the
    adapter's name is replaced: the adapters have the same names.
    """
    names: dict[str, Any] = {"__name__": "page", **given}
    for at, code in enumerate(codes):
        here = code.replace("ehlo.asyncio", "ehlo.trio") if backend == "trio" else code
        exec(compile(here, f"{where}, block {at + 1}", "exec"), names)
    return names


def names_of(page: str, backend: Backend = "asyncio") -> dict[str, Any]:
    """All Python blocks of a page, :func:`executed`."""
    return executed(*blocks(page), backend=backend, where=page)


def awaited(code: str, names: dict[str, Any]) -> Any:
    """A function that runs a block with ``await`` at its top."""
    compiled = compile(code, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return lambda: eval(compiled, names)


def run(backend: Backend, function: Any, *arguments: Any) -> Any:
    """An async function, on the loop of this name."""
    loop = importlib.import_module(backend)
    return loop.run(function(*arguments)) if backend == "asyncio" else loop.run(function, *arguments)


class Everyone(ehlo.Handler):
    """Accepts the password "secret" and the token of the pages, and keeps who came."""

    def __init__(self) -> None:
        self.logins: list[tuple[str, str]] = []

    def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> bool | ehlo.Identity | None:
        self.logins.append((credentials.mechanism, credentials.identity))
        match credentials:
            case ehlo.PasswordCredentials():
                return credentials.check("secret")
            case ehlo.TokenCredentials():
                return ehlo.Identity("jane@gmail.com") if credentials.token == "ya29.a-token" else None
        return None

    def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> str | None:
        return "550 5.1.1 no such user" if str(recipient.path).startswith("nobody@") else None


class World:
    """Where all connections of a page lead: one server on loopback, with TLS for every name that the pages use."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
        trustme = pytest.importorskip("trustme")
        ca = trustme.CA()
        self.client_tls = ssl.create_default_context()
        ca.configure_trust(self.client_tls)
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = ca.issue_cert("smtp.example.org", "smtp.gmail.com", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(tls)
        self.everyone = Everyone()
        config = ehlo.ServerConfig("mx.example.org", tls="starttls", auth=["PLAIN", "OAUTHBEARER", "XOAUTH2"])
        self.server = SMTPServer(self.everyone, config=config, tls=tls, backend=backend)
        self.ports: list[int] = []
        """Of the servers that pages started."""
        self._patch(monkeypatch)

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        modules = [ehlo.asyncio, ehlo.sync]
        with contextlib.suppress(ImportError):
            modules.append(importlib.import_module("ehlo.trio"))
        for module in modules:
            for name in ("connect", "Pool"):
                monkeypatch.setattr(module, name, self._leading_here(getattr(module, name)))
        monkeypatch.setattr(ehlo, "send", self._leading_here(ehlo.send, at=1))

    def _leading_here(self, real: Any, at: int = 0) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            before, (host, port), behind = arguments[:at], arguments[at : at + 2], arguments[at + 2 :]
            if port in {2525, 25, 465, 587}:
                port = self.server.port
                if options.get("tls"):
                    options |= {"ssl_context": self.client_tls, "server_hostname": host}
            return real(*before, "127.0.0.1", port, *behind, **options)

        return call


@contextlib.contextmanager
def world(folder: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend = "asyncio") -> Iterator[World]:
    """A :class:`World` that is running, with the current directory in ``folder``."""
    monkeypatch.chdir(folder)
    here = World(folder, monkeypatch, backend)
    with here.server:
        yield here


def send(port: int, *recipients: str, content: bytes = MESSAGE) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=PATIENCE) as client:
        return client.sendmail("a@example.net", recipients, content)


def serving(monkeypatch: pytest.MonkeyPatch, main: Any, use: Any) -> None:
    """Runs a page's ``main`` until ``use(port)`` has returned, on a port of the system's choice."""
    ports: asyncio.Queue[int] = asyncio.Queue()
    real = ehlo.asyncio.serve

    async def serve(handler: object, host: str, port: int, **options: Any) -> Any:
        server = await real(handler, host, 0, **options)
        ports.put_nowait(server.port)
        return server

    monkeypatch.setattr(ehlo.asyncio, "serve", serve)

    async def both() -> None:
        task = asyncio.ensure_future(main())
        port = asyncio.ensure_future(ports.get())
        await asyncio.wait([task, port], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        await asyncio.to_thread(use, await port)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(both())


def serving_on_trio(main: Any, said: Callable[[], str], use: Any) -> None:
    """Runs a page's ``main`` on trio until ``use(port)`` has returned. It must print the port; ``said`` gives that."""
    trio = pytest.importorskip("trio")

    async def patient() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            while "listening on port" not in (line := said()):
                await trio.lowlevel.checkpoint()
            await trio.to_thread.run_sync(use, int(line.split()[-1]))
            nursery.cancel_scope.cancel()

    trio.run(patient)
