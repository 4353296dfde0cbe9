"""From recipients to connections: MX, TLS, suspension, administration, LMTP and Maildir."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit import CONTENT, Sink, relaying, running, serving, until
from memory_spool import MemorySpool

import ehlo
from authority import Authority
from ehlo.mta import DeliveryLimits, Fail, Lmtp, Maildir, Mx, RetrySchedule, SmartHost, TlsPolicy
from ehlo.mta._model import Message, Recipient
from ehlo.mta._spool import Selection
from ehlo.mta.delivery_status import parse_report
from loops import run
from name_server import NameServer

# ---- MX --------------------------------------------------------------------------------------------------------


def test_c_que_23_domains_with_the_same_servers_share_a_route(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        records: Any = {
            "d1.example": {"MX": ["10 mx.p.example."]},
            "d2.example": {"MX": ["10 mx.p.example."]},
            "mx.p.example": {"A": ["127.0.0.1"]},
            "null.example": {"MX": ["0 ."]},
        }
        async with serving(sink) as server:
            with NameServer(records) as names:
                async with running(lambda recipient: Mx(port=server.port), resolver=names.resolver()) as (
                    queue,
                    spool,
                    _,
                ):
                    for domain in ("d1", "d2", "d1"):
                        await queue.submit(("a@b.example", [f"c@{domain}.example"]), CONTENT)
                        await until(lambda: "owned" not in spool.states())
                    await queue.submit(("", ["c@null.example", "c@gone.example"]), CONTENT)
                    await until(lambda: not spool.rows)
                    [route] = queue.routes
        assert route.name == "mx:mx.p.example"
        assert len(sink.got) == 3
        assert sum(kind == "MX" for _, kind in names.asked) == 4  # the second message to d1 asks nothing
        codes = [outcome.reply.enhanced for _, outcome in spool.ended if outcome.result == "failed"]
        assert codes == ["5.1.10", "5.1.2"]

    run(loop, main)


def test_c_que_24_recipients_with_one_route_go_in_one_transaction(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        records: Any = {f"d{n}.example": {"MX": ["10 mx.p.example."]} for n in range(3)}
        records["mx.p.example"] = {"A": ["127.0.0.1"]}
        async with serving(sink) as server:
            with NameServer(records) as names:
                limits = DeliveryLimits(recipients=4)
                async with running(
                    lambda recipient: Mx(port=server.port), resolver=names.resolver(), limits=limits
                ) as (queue, spool, _):
                    recipients = [f"c{n}@d{n % 3}.example" for n in range(6)]
                    await queue.submit(("a@b.example", recipients), CONTENT)
                    await until(lambda: not spool.rows)
        assert sorted(len(envelope.recipients) for envelope, _ in sink.got) == [2, 4]

    run(loop, main)


# ---- TLS -------------------------------------------------------------------------------------------------------


class TlsSink(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.protocols: list[str] = []

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> str | None:
        self.protocols.append(session.protocol)
        return super().on_message(session, envelope, content)


@pytest.mark.parametrize(
    ("level", "broken", "protocol"),
    [
        ("opportunistic", False, "ESMTPS"),
        ("opportunistic", True, "ESMTP"),  # the handshake fails, and it goes in clear in the same attempt
        ("required", False, "ESMTPS"),
        ("required", True, None),
        ("verified", False, "ESMTPS"),
        ("off", False, "ESMTP"),
    ],
)
def test_c_que_25_tls_by_policy(
    loop: str, authority: Authority, level: Any, broken: bool, protocol: str | None
) -> None:
    async def main() -> None:
        sink = TlsSink()
        server_context = authority.server()
        client_context = authority.client() if level == "verified" else None
        if broken:
            server_context.minimum_version = ssl.TLSVersion.TLSv1_3
            client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client_context.check_hostname = False
            client_context.verify_mode = ssl.CERT_NONE
            client_context.maximum_version = ssl.TLSVersion.TLSv1_2
        policy = TlsPolicy(level, context=client_context)
        async with (
            serving(sink, tls=server_context) as server,
            running(lambda recipient: SmartHost("127.0.0.1", server.port, tls=policy)) as (queue, spool, _),
        ):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: spool.ended or "ready" in spool.states())
            if protocol is None:
                [row] = spool.rows.values()
                assert row.reply.startswith("451 4.7.5")
                assert row.recipient.attempts == 1
        assert sink.protocols == ([protocol] if protocol else [])

    run(loop, main)


def test_c_que_03_requiretls_is_obeyed_or_comes_back(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        sender = ehlo.Sender("a@b.example", requiretls=True)
        async with serving(sink) as server:

            def route(recipient: ehlo.Recipient) -> SmartHost:
                return SmartHost("127.0.0.1", server.port, tls="off")

            async with running(route) as (queue, spool, _):
                await queue.submit((sender, ["c@d.example"]), CONTENT)
                await until(lambda: spool.ended or "ready" in spool.states())
                [row] = spool.rows.values()
                assert row.reply.startswith("451 4.7.4")  # no STARTTLS is offered
        assert not sink.got

    run(loop, main)


# ---- suspension and administration -----------------------------------------------------------------------------


def test_c_que_08_a_dead_route_is_left_alone_and_no_attempt_is_counted(loop: str) -> None:
    async def main() -> None:
        limits = DeliveryLimits(backlog=2)
        async with running(lambda recipient: SmartHost("127.0.0.1", 1, tls="off"), limits=limits) as (
            queue,
            spool,
            clock,
        ):
            for number in range(20):
                await queue.submit(("a@b.example", [f"c{number}@d.example"]), CONTENT)
            await until(lambda: queue.counters.suspensions and spool.states().count("owned") <= 2)
            [route] = queue.routes
            assert 50 < route.suspended_for <= 60
            assert "4.4.1" in route.reason
            attempted = sum(row.recipient.attempts for row in spool.rows.values())
            assert attempted <= 8
            assert queue.counters.attempts["postponed"] >= 10
            clock.move(61)
            await until(lambda: queue.routes[0].suspended_for > 61)
            assert sum(row.recipient.attempts for row in spool.rows.values()) == attempted + 1  # the probe

    run(loop, main)


def test_contents_for_a_suspended_route_count_only_while_they_are_in_memory(loop: str) -> None:
    async def main() -> None:
        limits = DeliveryLimits(backlog=1)
        async with relaying(Sink(), limits=limits) as (queue, spool, _):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: not spool.rows)
            await queue.suspend(queue.routes[0].name, 3600, "maintenance")
            for number in range(5):
                await queue.submit(("a@b.example", [f"c{number}@d.example"]), CONTENT)
            assert queue.counters.attempts["postponed"] == 4
            assert queue._delivery.octets == len(CONTENT)  # that of the one that waits here

    run(loop, main)


def test_s_que_20_an_administrator_suspends_and_resumes(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: len(sink.got) == 1 and not spool.rows)
            [route] = queue.routes
            await queue.suspend(route.name, 3600, "maintenance")
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            assert queue.routes[0].suspended_for == 3600
            assert queue.routes[0].reason == "maintenance"
            assert route.name in spool.rules
            clock.move(100)
            assert len(sink.got) == 1
            assert await queue.resume(route.name)
            await until(lambda: len(sink.got) == 2)
            assert not await queue.resume(route.name)

    run(loop, main)


def test_s_que_20_what_another_node_suspended_is_learnt(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: len(sink.got) == 1 and not spool.rows)
            name = queue.routes[0].name
            await spool.suspend(ehlo.mta._spool.Suspension(name, clock.time() + 50, "there", clock.time()))
            assert spool.on_news is not None
            spool.on_news()
            await until(lambda: queue.routes[0].suspended_for)
            await spool.resume(name)
            spool.on_news()
            await until(lambda: not queue.routes[0].suspended_for)

    run(loop, main)


def test_s_que_21_an_administrator_fails_and_retries(loop: str) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"c@d.example": "451 4.7.1 later"})
        async with relaying(sink) as (queue, spool, _):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: "ready" in spool.states())
            assert (await queue.retry(Selection())).recipients == 1
            await until(lambda: sink.mails == 2 and "ready" in spool.states())
            with pytest.raises(ehlo.LocalProtocolError):
                await queue.fail(Selection(), ehlo.Reply(450, "4.2.0", "no"))
            assert await queue.fail(Selection(), ehlo.Reply(550, "5.7.1", "not wanted")) == 1
            await until(lambda: sink.got)
        assert parse_report(sink.got[0][1]).status.recipients[0].status == "5.7.1"

    run(loop, main)


# ---- final delivery --------------------------------------------------------------------------------------------


def test_b_dsn_11_final_delivery_tells_delivered(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        sink = Sink()

        async with (
            serving(sink) as server,
            serving(Sink(), config=ehlo.ServerConfig("l", lmtp=True, dsn=False)) as agent,
        ):

            def route(recipient: ehlo.Recipient) -> object:
                match recipient.domain:
                    case "file.example" if str(recipient.path).startswith("bad"):
                        return Fail("550 5.1.1 no such mailbox")
                    case "file.example":
                        return Maildir(tmp_path / "{domain}/{local_part}")
                    case "agent.example":
                        return Lmtp(f"127.0.0.1:{agent.port}")
                return SmartHost("127.0.0.1", server.port, tls="off")

            async with running(route) as (queue, spool, _):
                names = ("joe@file.example", "bad@file.example", "joe@agent.example")
                recipients = [ehlo.Recipient(name, notify=("SUCCESS", "FAILURE")) for name in names]
                await queue.submit(("a@b.example", recipients), CONTENT)
                await until(lambda: len(sink.got) == 3 and not spool.rows)
        [path] = (tmp_path / "file.example/joe/new").iterdir()
        assert path.read_bytes() == b"Return-Path: <a@b.example>\n" + CONTENT.replace(b"\r\n", b"\n")
        told = {
            one.final_recipient: one.action
            for _, content in sink.got
            for one in parse_report(content).status.recipients
        }
        assert told == {names[0]: "delivered", names[1]: "failed", names[2]: "delivered"}

    run(loop, main)


def test_s_que_22_a_mailbox_that_cannot_be_written_defers(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "joe").write_text("a file, no folder")
        async with running(lambda recipient: Maildir(tmp_path / "{local_part}")) as (queue, spool, _):
            await queue.submit(("a@b.example", ["joe@d.example"]), CONTENT)
            await until(lambda: "ready" in spool.states())
            assert next(iter(spool.rows.values())).reply.startswith("451 4.3.0 The mailbox")

    run("asyncio", main)


def test_a_content_in_pieces_goes_into_a_maildir_and_over_smtp(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        big = CONTENT + b"x" * 70 + b"\r\n"

        def reading(message: Message) -> Any:
            async def pieces() -> Any:
                for at in range(0, len(big), 7):
                    yield big[at : at + 7]

            return pieces

        sink = Sink()
        spool = MemorySpool(reading=reading)
        async with serving(sink) as server:

            def route(recipient: ehlo.Recipient) -> object:
                if recipient.domain == "file.example":
                    return Maildir(tmp_path / "{local_part}")
                return SmartHost("127.0.0.1", server.port, tls="off")

            async with running(route, spool, limits=DeliveryLimits(octets=0)) as (queue, _, _clock):
                await queue.submit(("a@b.example", ["joe@file.example", "joe@d.example"]), big)
                await until(lambda: not spool.rows)
        assert sink.got[0][1] == big
        [path] = (tmp_path / "joe/new").iterdir()
        assert path.read_bytes().endswith(big.replace(b"\r\n", b"\n"))

    run(loop, main)


def test_c_que_26_the_last_attempt_is_at_the_end_of_the_messages_time() -> None:
    async def main() -> None:
        limits = DeliveryLimits(backlog=0, first=1)
        schedule = RetrySchedule((600,), null_lifetime=1000, jitter=0, warn_after=None)
        async with running(
            lambda recipient: SmartHost("127.0.0.1", 1, tls="off"), limits=limits, schedule=schedule
        ) as (queue, spool, clock):
            await queue.submit(("", ["c@d.example"]), CONTENT)
            await queue.submit(("", ["e@d.example"]), CONTENT)
            while spool.rows:
                clock.move(10)
                await anyio.sleep(0.001)
        assert [outcome.reply.enhanced for _, outcome in spool.ended] == ["5.4.7", "5.4.7"]

    run("asyncio", main)


# ---- limits ----------------------------------------------------------------------------------------------------


def test_c_que_06_large_messages_wait_for_each_other_and_all_arrive(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink, limits=DeliveryLimits(first=4)) as (queue, spool, _):
            for _ in range(4):
                await queue.submit(("a@b.example", ["c@d.example"]), CONTENT + b"x\r\n" * 400000)
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: not spool.rows)
        assert len(sink.got) == 5

    run(loop, main)


def test_c_que_27_routes_share_the_connections(loop: str) -> None:
    """There are fewer connections than routes: each route gets its turn, one that has idle connections gives way."""

    async def main() -> None:
        sinks = [Sink() for _ in range(4)]
        async with serving(sinks[0]) as s0, serving(sinks[1]) as s1, serving(sinks[2]) as s2, serving(sinks[3]) as s3:
            ports = [server.port for server in (s0, s1, s2, s3)]

            def route(recipient: ehlo.Recipient) -> SmartHost:
                return SmartHost("127.0.0.1", ports[int(str(recipient.path)[0])], tls="off")

            async with running(route, limits=DeliveryLimits(connections=2)) as (queue, spool, _):
                for _ in range(10):
                    for number in range(4):
                        await queue.submit(("a@b.example", [f"{number}@d.example"]), CONTENT)
                await until(lambda: not spool.rows)
        assert [len(sink.got) for sink in sinks] == [10] * 4

    run(loop, main)


def test_s_que_24_what_is_too_much_for_memory_waits_in_the_spool(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink, limits=DeliveryLimits(active=2, octets=100)) as (queue, spool, _):
            for number in range(30):
                await queue.submit(("a@b.example", [f"c{number}@d.example"]), CONTENT)
                assert queue._delivery.active <= 2
            await until(lambda: not spool.rows)
        assert len(sink.got) == 30

    run(loop, main)


def test_s_que_17_a_spool_that_fails_for_a_while_stops_nothing(loop: str) -> None:
    class Failing(MemorySpool):
        failures = 3

        async def claim(self, now: float, limit: int) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(5, "gone")
            return await super().claim(now, limit)

        async def next_due(self) -> float | None:
            if self.failures:
                raise OSError(5, "gone")
            return await super().next_due()

    async def main() -> None:
        sink = Sink()
        spool = Failing()
        spool.store(Message(1, "a@b.example", 0.0, size=len(CONTENT)), [Recipient(2, "c@d.example")], CONTENT)
        async with relaying(sink, spool=spool) as (_, _, clock):
            while not sink.got:
                clock.move(10)
                await anyio.sleep(0.001)

    run(loop, main)


def test_c_que_18_what_does_not_end_in_time_is_cut_off(loop: str) -> None:
    class Slow(Sink):
        async def on_rcpt(self, session: ehlo.Session, recipient: ehlo.Recipient) -> None:  # type: ignore[override]
            await release.wait()

    release: Any = None

    async def main() -> None:
        nonlocal release
        release = anyio.Event()
        async with relaying(Slow()) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: queue.routes and queue.routes[0].busy)
            async with anyio.create_task_group() as group:
                ended: list[bool] = []

                async def drain() -> None:
                    ended.append(await queue.drain(10))

                group.start_soon(drain)
                await until(lambda: queue._delivery._settled is not None)  # it waits
                clock.move(11)
            release.set()
            assert ended == [False]
            assert spool.states() == ["owned"]

    run(loop, main)


def test_nothing_is_begun_for_what_another_node_took_over(loop: str) -> None:
    async def main() -> None:
        sink, spool = Sink(), MemorySpool()
        spool.lost.add(1)
        async with relaying(sink, spool=spool) as (queue, _, _):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: len(sink.got) == 1 and len(spool.rows) == 1)
            await until(lambda: not queue._delivery.active)
        assert spool.states() == ["owned"]

    run(loop, main)


def test_a_message_with_which_the_process_died_three_times_is_held(loop: str) -> None:
    async def main() -> None:
        sink, spool = Sink(), MemorySpool()
        for number, crashes in ((1, 3), (2, 2)):
            about = Message(number, "a@b.example", 0.0, len(CONTENT))
            spool.store(about, [Recipient(number, "c@d.example", crashes=crashes)], CONTENT)
        async with relaying(sink, spool=spool):
            await until(lambda: len(sink.got) == 1 and spool.states() == ["held"])
        assert spool.rows[1].reply == "451 4.3.0 The process ended 3 times while it delivered this message"
        assert spool.attempts == [2]

    run(loop, main)


@pytest.mark.parametrize("rates", [{"message_rate": 0.1}, {"connection_rate": 0.1}])
def test_a_route_keeps_its_rate(loop: str, rates: dict[str, Any]) -> None:
    async def main() -> None:
        sink = Sink()
        limits = DeliveryLimits(**rates)
        asked: list[str] = []

        def of_route(name: str) -> DeliveryLimits:
            asked.append(name)
            return limits

        async with relaying(sink, route_limits=of_route, limits=DeliveryLimits(messages=1)) as (queue, _, clock):
            for _ in range(3):
                await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            for number in (1, 2, 3):
                while len(sink.got) < number:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                for _ in range(20):
                    await anyio.sleep(0.001)
                assert len(sink.got) == number
                await until(lambda: clock._waiting)
                clock.move(10)
        assert len(asked) == 1

    run(loop, main)
