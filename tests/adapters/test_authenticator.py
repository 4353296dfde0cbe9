"""Passwords are checked beside the loop: what waits, what is refused, what a client that goes away leaves behind."""

from __future__ import annotations

import base64
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ehlo
from backends import CONFIG, MAIL, Backend, Beside

AUTH = CONFIG.replace(auth=["PLAIN", "SCRAM-SHA-256"], auth_in_clear=["PLAIN", "SCRAM-SHA-256"])
KEYS = ehlo.ScramKeys.from_password("x")
NO_DELAY = ehlo.Limits(auth_delay_seconds=0)


class Slow:
    """Users whose passwords are checked when the test says so."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.names: list[str] = []

    def check(self, credentials: ehlo.Credentials) -> Any:
        if isinstance(credentials, ehlo.ScramCredentials):
            return KEYS
        self.names.append(credentials.username)
        assert self.go_on.acquire(timeout=20)
        if credentials.username == "broken":
            raise OSError("the users are gone")
        return credentials.username == "jane"


class Door(ehlo.Handler):
    def __init__(self, authenticator: Any) -> None:
        self.authenticator = authenticator

    async def on_auth(self, session: ehlo.Session, credentials: ehlo.Credentials) -> Any:
        return await self.authenticator.check(session, credentials)


def plain(name: str) -> ehlo.Credentials:
    return ehlo.PasswordCredentials(mechanism="PLAIN", username=name, password="x")


def client_at(address: str | None) -> Any:
    return SimpleNamespace(counted_address=address)


async def begin(backend: Backend, authenticator: Any, users: Slow, address: str | None, name: str) -> Beside:
    """Ask, and go on when the wish for a turn is known: one after the other, whatever the order of tasks is."""
    before = authenticator.waiting + len(users.names)
    answer = backend.beside(authenticator.check, client_at(address), plain(name))
    await backend.until(lambda: authenticator.waiting + len(users.names) > before)
    return answer


def with_one_worker(backend: Backend, test: Callable[[Any, Slow], Awaitable[None]], waiting: int = 10) -> Slow:
    users = Slow()

    async def main() -> None:
        try:
            await test(backend.adapter.Authenticator(users, workers=1, waiting=waiting, busy_seconds=0), users)
        finally:
            users.go_on.release(100)

    backend.run(main)
    return users


def test_networks_take_turns_and_nobody_waits_in_a_thread(backend: Backend) -> None:
    async def test(authenticator: Any, users: Slow) -> None:
        asks: list[tuple[str | None, str]] = [("192.0.2.1", f"a{number}") for number in range(4)]
        asks += [("2001:db8::1", "jane"), ("2001:db8::2", "jim"), (None, "root")]
        answers = [await begin(backend, authenticator, users, address, name) for address, name in asks]
        assert threading.active_count() - threads <= 1
        scram = ehlo.ScramCredentials(mechanism="SCRAM-SHA-256", username="jane")
        assert await authenticator.check(client_at("192.0.2.9"), scram) is KEYS  # it needs no work, and waits for none
        users.go_on.release(7)
        assert [await one for one in answers] == [False] * 4 + [True, False, False]
        assert authenticator.refused == 0

    threads = threading.active_count()
    users = with_one_worker(backend, test)
    assert users.names == ["a0", "a1", "jane", "root", "a2", "jim", "a3"]


def test_delivery_does_not_wait_for_passwords(backend: Backend) -> None:
    # FAULTS B3: more clients with passwords than any pool has threads, and none of them gets an answer yet.
    class Store(Door):
        async def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> None:
            assert await backend.thread(len, content) == 3

    async def test(authenticator: Any, users: Slow) -> None:
        config = AUTH.replace(content="collect")
        async with await backend.serve(Store(authenticator), config=config, limits=NO_DELAY) as server:
            attackers = [await backend.ready(server) for _ in range(60)]
            for client in attackers:
                await client.send(b"AUTH PLAIN " + base64.b64encode(b"\0joe\0x") + b"\r\n")
            await backend.until(lambda: authenticator.waiting == 59)
            honest = await backend.ready(server)
            for _ in range(3):
                await honest.send(MAIL + b"DATA\r\n")
                assert await honest.codes(3) == ["250", "250", "354"]
                assert (await honest.ask(b"x\r\n.\r\n")).startswith("250")
            assert (authenticator.waiting, users.names) == (59, ["joe"])
            users.go_on.release(60)
            assert {(await client.reply())[:3] for client in attackers} == {"535"}

    with_one_worker(backend, test, waiting=100)


def test_too_many_are_told_to_come_again(backend: Backend) -> None:
    # RFC 4954 6; FAULTS B3.
    async def test(authenticator: Any, users: Slow) -> None:
        async with await backend.serve(Door(authenticator), config=AUTH, limits=NO_DELAY) as server:
            clients = [await backend.ready(server) for _ in range(3)]
            for number, client in enumerate(clients):
                await client.send(b"AUTH PLAIN " + base64.b64encode(b"\0jane\0x") + b"\r\n")
                if number == 1:
                    await backend.until(lambda: authenticator.waiting == 1)
            assert await clients[2].reply() == "454 4.7.0 Too many logins at once; try again later"
            assert authenticator.refused == 1
            users.go_on.release(2)
            assert [(await client.reply())[:3] for client in clients[:2]] == ["235", "235"]

    with_one_worker(backend, test, waiting=1)


def test_a_client_that_is_told_so_waits_first(backend: Backend) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def test(authenticator: Any, users: Slow) -> None:
        authenticator._busy_seconds, authenticator._sleep = 5.0, sleep
        first = await begin(backend, authenticator, users, "192.0.2.1", "first")
        second = await begin(backend, authenticator, users, "192.0.2.2", "second")
        reply = await authenticator.check(client_at("192.0.2.3"), plain("third"))
        assert (reply.code, slept) == (454, [5.0])
        users.go_on.release(2)
        assert (await first, await second) == (False, False)

    with_one_worker(backend, test, waiting=1)


def test_a_client_that_goes_away_leaves_its_place(backend: Backend) -> None:
    async def test(authenticator: Any, users: Slow) -> None:
        names = ("first", "second", "jane")
        first, second, third = [await begin(backend, authenticator, users, "192.0.2.1", name) for name in names]
        second.cancel()  # it waits
        first.cancel()  # its thread works on: the turn is over when the thread is done
        await backend.until(lambda: first.done and second.done)
        assert authenticator.waiting == 1
        assert users.names == ["first"]
        users.go_on.release(2)
        assert await third is True

    assert with_one_worker(backend, test).names == ["first", "jane"]


def test_what_the_users_raise_is_raised(backend: Backend) -> None:
    async def test(authenticator: Any, users: Slow) -> None:
        users.go_on.release(2)
        with pytest.raises(OSError, match="the users are gone"):
            await authenticator.check(client_at("192.0.2.1"), plain("broken"))
        assert await authenticator.check(client_at("192.0.2.1"), plain("jane")) is True

    with_one_worker(backend, test)


def test_wrong_numbers(backend: Backend) -> None:
    async def main() -> None:
        for options in ({"workers": 0}, {"waiting": 0}, {"busy_seconds": -1}):
            with pytest.raises(ehlo.LocalProtocolError, match="an authenticator"):
                backend.adapter.Authenticator(Slow(), **options)

    backend.run(main)
