"""A queue from the client to the next hop, over a spool in memory, on every loop."""

from __future__ import annotations

import email
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kit import CONTENT, Sink, connect, relaying, running, serving, until
from memory_spool import MemorySpool

import ehlo
from authority import Authority
from ehlo.mta import DeliveryLimits, Fail, Hold, Queue, QueueHandler, RetrySchedule, SmartHost, StreamingQueueHandler
from ehlo.mta._model import Content, Message
from ehlo.mta._spool import Suspension
from ehlo.mta.delivery_status import parse_report
from loops import run


@pytest.mark.parametrize("kind", [QueueHandler, StreamingQueueHandler])
def test_s_que_10_a_message_goes_through_with_received_on_top(loop: str, kind: type[QueueHandler]) -> None:
    async def main() -> None:
        sink = Sink()
        async with (
            relaying(sink) as (queue, spool, _),
            serving(kind(queue)) as server,
            connect(server.port) as client,
        ):
            result = await client.send(CONTENT, "a@b.example", ["c@d.example"])
            await until(lambda: spool.ended)
        reply = str(result.reply)
        [(envelope, content)] = sink.got
        assert str(envelope.sender.path) == "a@b.example"
        assert [str(one.path) for one in envelope.recipients] == ["c@d.example"]
        received, _, rest = content.partition(b"\r\nFrom")
        assert b"From" + rest == CONTENT
        ident = spool.ended[0][0].ident
        assert f"queued as {ident}" in reply
        field = " ".join(received.decode().split())
        assert field.startswith("Received: from client.example ([127.0.0.1]) by mx.example with ESMTP")
        assert f" id {ident} for <c@d.example>;" in field
        assert queue.counters.accepted == 1
        assert queue.counters.attempts["relayed"] == 1
        assert not spool.rows

    run(loop, main)


@pytest.mark.parametrize("kind", [QueueHandler, StreamingQueueHandler])
def test_s_que_10_several_recipients_have_no_for_and_one_transaction(loop: str, kind: type[QueueHandler]) -> None:
    async def main() -> None:
        sink = Sink()
        async with (
            relaying(sink) as (queue, spool, _),
            serving(kind(queue)) as server,
            connect(server.port) as client,
        ):
            await client.send(CONTENT, "a@b.example", [f"c{n}@d.example" for n in range(5)])
            await until(lambda: len(spool.ended) == 5)
        [(envelope, content)] = sink.got
        assert len(envelope.recipients) == 5
        assert b" for <" not in content.partition(b"Subject")[0]

    run(loop, main)


@pytest.mark.parametrize("kind", [QueueHandler, StreamingQueueHandler])
def test_s_que_13_a_message_that_goes_round_is_refused(loop: str, kind: type[QueueHandler]) -> None:
    async def main() -> None:
        spool = MemorySpool()
        async with (
            running(lambda recipient: Hold("here"), spool) as (queue, _, _),
            serving(kind(queue)) as server,
            connect(server.port) as client,
        ):
            hop = b"Received: from a by b; Sat, 1 Jan 2000 00:00:00 +0000\r\n"
            with pytest.raises(ehlo.SMTPDataError) as caught:
                await client.send(hop * 100 + CONTENT, "a@b.example", ["c@d.example"])
            assert caught.value.reply is not None
            assert (caught.value.reply.code, caught.value.reply.enhanced) == (554, "5.4.6")
            assert not spool.rows
            await client.send(hop * 99 + CONTENT, "a@b.example", ["c@d.example"])
            assert len(spool.rows) == 1

    run(loop, main)


@pytest.mark.parametrize("kind", [QueueHandler, StreamingQueueHandler])
@pytest.mark.parametrize(("number", "code"), [(28, "452 4.3.1"), (30, "451 4.3.0")])
def test_s_que_14_what_cannot_be_stored_is_not_accepted(
    loop: str, kind: type[QueueHandler], number: int, code: str
) -> None:
    async def main() -> None:
        spool = MemorySpool()
        async with (
            running(lambda recipient: Hold("here"), spool) as (queue, _, _),
            serving(kind(queue)) as server,
            connect(server.port) as client,
        ):
            spool.error = OSError(number, "no")
            with pytest.raises(ehlo.SMTPDataError) as caught:
                await client.send(CONTENT, "a@b.example", ["c@d.example"])
            assert str(caught.value.reply).startswith(code)
            spool.error = None
            await client.send(CONTENT, "a@b.example", ["c@d.example"])
        assert queue.counters.refused == 1
        assert queue.counters.accepted == 1

    run(loop, main)


def test_s_que_14_no_room_is_said_before_the_content(loop: str) -> None:
    async def main() -> None:
        spool = MemorySpool(full=ehlo.Reply(452, "4.3.1", "no room"))
        async with (
            running(lambda recipient: Hold("here"), spool) as (queue, _, _),
            serving(QueueHandler(queue)) as server,
            connect(server.port, config=ehlo.ClientConfig(chunking=False)) as client,
        ):
            with pytest.raises(ehlo.SMTPDataError) as caught:
                await client.send(CONTENT, "a@b.example", ["c@d.example"])
            assert caught.value.result is not None
            assert caught.value.reply is not None
            assert caught.value.result.recipients[0].stage == "data"
            assert caught.value.reply.enhanced == "4.3.1"

    run(loop, main)


def test_s_que_15_postmaster_without_a_domain_is_here(loop: str) -> None:
    async def main() -> None:
        async with running(lambda recipient: Hold("here")) as (queue, spool, _):
            await queue.submit(("a@b.example", [ehlo.Recipient("Postmaster")]), CONTENT)
            await until(lambda: "held" in spool.states())
            assert next(iter(spool.rows.values())).recipient.path == "postmaster@mx.example"
            with pytest.raises(ehlo.LocalProtocolError):
                await queue.submit(("a@b.example", []), CONTENT)
            with pytest.raises(ehlo.LocalProtocolError):
                await queue.run()

    run(loop, main)


def test_b_dsn_10_a_refusal_comes_back_to_the_sender(loop: str) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"bad1@d.example": "550 5.1.1 no such user", "bad2@d.example": "550 5.1.1 nor this"})
        async with relaying(sink) as (queue, spool, _):
            recipients = ["bad1@d.example", "good@d.example", "bad2@d.example"]
            ident = await queue.submit((ehlo.Sender("a@b.example", envid="x y"), recipients), CONTENT)
            await until(lambda: len(spool.ended) == 4)
        (first, content), (second, report) = sink.got
        assert [str(one.path) for one in first.recipients] == ["good@d.example"]
        assert content == CONTENT
        assert second.sender.path == ehlo.NULL
        assert [str(one.path) for one in second.recipients] == ["a@b.example"]
        read = parse_report(report)
        assert [one.final_recipient for one in read.status.recipients] == ["bad1@d.example", "bad2@d.example"]
        one = read.status.recipients[0]
        assert (one.action, one.status, one.remote_mta) == ("failed", "5.1.1", "127.0.0.1")
        assert one.diagnostic == ("smtp", "550 5.1.1 no such user")
        assert one.final_log_id == ident
        assert read.status.envelope_id == "x y"
        assert read.original == CONTENT
        assert email.message_from_bytes(report)["To"] == "<a@b.example>"
        assert queue.counters.notices["failed"] == 1

    run(loop, main)


def test_c_que_11_a_deferred_recipient_is_tried_again_when_it_is_due(loop: str) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"grey@d.example": "451 4.7.1 greylisted"})
        async with relaying(sink) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["grey@d.example"]), CONTENT)
            await until(lambda: "ready" in spool.states())
            [row] = spool.rows.values()
            assert 270 <= row.recipient.due - clock.time() <= 330
            assert row.recipient.attempts == 1
            sink.rcpt.clear()
            clock.move(331)
            await until(lambda: spool.ended)
        assert len(sink.got) == 1

    run(loop, main)


@pytest.mark.parametrize("ahead", [8 * 365 * 86400.0, 30 * 86400.0, 8 * 3600.0])
def test_c_que_11_what_was_deferred_while_the_clock_was_ahead_is_tried_when_it_is_set_back(
    loop: str, ahead: float
) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"grey@d.example": "451 4.7.1 greylisted"})
        async with relaying(sink) as (queue, spool, clock):
            offset = queue._delivery._offset
            clock.ahead = ahead
            queue._delivery.wake()
            await until(lambda: queue._delivery._offset == offset + ahead)
            await queue.submit(("a@b.example", ["grey@d.example"]), CONTENT)
            await until(lambda: "ready" in spool.states())
            sink.rcpt.clear()
            clock.ahead = 0.0
            queue._delivery.wake()
            await until(lambda: spool.ended)
        assert len(sink.got) == 1

    run(loop, main)


@pytest.mark.parametrize("ahead", [8 * 365 * 86400.0, 30 * 86400.0, 8 * 3600.0])
def test_c_que_11_what_was_deferred_while_the_clock_was_ahead_is_tried_at_the_start(loop: str, ahead: float) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"grey@d.example": "451 4.7.1 greylisted"})
        async with relaying(sink) as (queue, spool, clock):
            clock.ahead = ahead
            await queue.submit(("a@b.example", ["grey@d.example"]), CONTENT)
            await until(lambda: "ready" in spool.states())
        sink.rcpt.clear()
        spool.last_write = clock.time()
        async with relaying(sink, spool=spool):
            await until(lambda: spool.ended)
        assert len(sink.got) == 1

    run(loop, main)


def test_s_que_12_routes_that_decide_at_once(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with serving(sink) as next_hop:

            async def route(recipient: ehlo.Recipient) -> object:
                match recipient.domain:
                    case "gone.example":
                        return Fail("550 5.1.6 moved away")
                    case "look.example":
                        return Hold("to be looked at")
                return SmartHost("127.0.0.1", next_hop.port, tls="off")

            for one in (route, lambda recipient: route(recipient)):
                async with running(one) as (queue, spool, _):
                    await queue.submit(("a@b.example", ["x@gone.example"]), CONTENT)
                    await queue.submit(("a@b.example", ["y@look.example"]), CONTENT)
                    await until(lambda: sink.got and spool.states() == ["held"])
                    [row] = spool.rows.values()
                    assert row.reply == "450 4.7.1 Held: to be looked at"
                assert parse_report(sink.got.pop()[1]).status.recipients[0].status == "5.1.6"

    run(loop, main)


# ---- notifications ---------------------------------------------------------------------------------------------


async def notified(sink: Sink, submit: Callable[[Queue], Awaitable[object]], **options: Any) -> list[bytes]:
    """What the sender gets, when all is done."""
    async with relaying(sink, **options) as (queue, spool, _):
        await submit(queue)
        await until(lambda: spool.ended and not spool.rows)
    return [content for envelope, content in sink.got if envelope.sender.path == ehlo.NULL]


@pytest.mark.parametrize("dsn", [True, False])
def test_b_dsn_11_success_is_told_where_the_next_hop_does_not(loop: str, dsn: bool) -> None:
    async def main() -> None:
        sink = Sink()
        recipient = ehlo.Recipient("c@d.example", notify=("SUCCESS",), orcpt=("rfc822", "old@d.example"))
        sender = ehlo.Sender("a@b.example", ret="HDRS", envid="id 1")
        told = await notified(
            sink,
            lambda queue: queue.submit((sender, [recipient]), CONTENT),
            config=ehlo.ServerConfig("sink.example", dsn=dsn),
        )
        passed_on = sink.got[0][0]
        if dsn:
            assert not told
            assert (passed_on.sender.ret, passed_on.sender.envid) == ("HDRS", "id 1")
            assert passed_on.recipients[0].notify == frozenset({"SUCCESS"})
            assert passed_on.recipients[0].orcpt == ("rfc822", "old@d.example")
        else:
            assert not passed_on.sender.parameters or passed_on.sender.envid is None
            [report] = told
            [one] = parse_report(report).status.recipients
            assert (one.action, one.status, one.original_recipient) == ("relayed", "2.0.0", ("rfc822", "old@d.example"))

    run(loop, main)


@pytest.mark.parametrize(
    ("notify", "count"), [(None, 1), (("FAILURE",), 1), (("NEVER",), 0), (("SUCCESS", "DELAY"), 0)]
)
def test_b_dsn_12_failure_is_told_unless_the_sender_does_not_want_it(
    notify: tuple[str, ...] | None, count: int
) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"c@d.example": "550 5.1.1 no"})
        recipient = ehlo.Recipient("c@d.example", notify=notify)
        told = await notified(sink, lambda queue: queue.submit(("a@b.example", [recipient]), CONTENT))
        assert len(told) == count

    run("asyncio", main)


def test_b_dsn_02_ret_hdrs_is_obeyed() -> None:
    async def main() -> None:
        sink = Sink(rcpt={"c@d.example": "550 5.1.1 no"})
        sender = ehlo.Sender("a@b.example", ret="HDRS")
        [report] = await notified(sink, lambda queue: queue.submit((sender, ["c@d.example"]), CONTENT))
        assert not parse_report(report).is_full

    run("asyncio", main)


@pytest.mark.parametrize("postmaster", [None, "postmaster@mx.example"])
def test_b_dsn_13_the_null_sender_is_told_nothing(loop: str, postmaster: str | None) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"c@d.example": "550 5.1.1 no"})
        async with relaying(sink, postmaster=postmaster) as (queue, spool, _):
            await queue.submit(("", ["c@d.example"]), CONTENT)
            await until(lambda: spool.ended and not spool.rows)
        assert queue.counters.double_bounces == 1
        assert [str(envelope.recipients[0].path) for envelope, _ in sink.got] == ([postmaster] if postmaster else [])

    run(loop, main)


def test_b_dsn_14_delay_is_told_once_and_then_the_failure(loop: str) -> None:
    async def main() -> None:
        sink = Sink(rcpt={"c@d.example": "451 4.2.1 mailbox busy"})
        schedule = RetrySchedule((3600,), lifetime=6.5 * 3600, jitter=0)
        async with relaying(sink, schedule=schedule) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            for hour in range(8):
                await until(lambda: (spool.ended and not spool.rows) or "ready" in spool.states())
                row = next((row for row in spool.rows.values() if row.state == "ready"), None)
                if row is not None:
                    assert row.recipient.attempts == hour + 1
                    clock.move(row.recipient.due - clock.time() + 1)
                    await until(lambda: row.recipient.attempts > hour + 1)  # noqa: B023
        delay, failure = (parse_report(content).status.recipients[0] for _, content in sink.got)
        assert (delay.action, delay.status) == ("delayed", "4.2.1")
        assert delay.will_retry_until is not None
        assert (failure.action, failure.status) == ("failed", "5.4.7")
        assert failure.diagnostic is not None
        assert "451 4.2.1 mailbox busy" in failure.diagnostic[1]
        assert queue.counters.notices == {"delayed": 1, "failed": 1}

    run(loop, main)


# ---- bad days --------------------------------------------------------------------------------------------------


def test_s_que_16_what_makes_delivery_crash_is_held_and_stops_nobody(loop: str) -> None:
    async def main() -> None:
        sink = Sink()

        def reading(message: Message) -> Content:
            if message.size == 1:
                raise RuntimeError("this message is bad")
            return CONTENT

        spool = MemorySpool(reading=reading)
        async with relaying(sink, spool=spool, limits=DeliveryLimits(octets=0)) as (queue, _, clock):
            await queue.submit(("a@b.example", ["bad@d.example"]), b"x")
            for attempt in range(3):
                await queue.submit(("a@b.example", ["good@d.example"]), CONTENT)
                await until(lambda: len(sink.got) > attempt and "owned" not in spool.states())  # noqa: B023
                clock.move(3000)
                await until(lambda: queue.counters.crashes > attempt + 1 or "held" in spool.states())  # noqa: B023
            [row] = spool.rows.values()
            assert row.state == "held"
            assert "RuntimeError" in row.reply
        assert queue.counters.crashes == 3

    run(loop, main)


def test_s_que_16_a_route_that_raises_is_a_crash_too(loop: str) -> None:
    async def main() -> None:
        async with running(lambda recipient: None) as (queue, spool, clock):
            await queue.submit(("a@b.example", ["c@d.example", "e@d.example"]), CONTENT)
            for attempt in range(3):
                await until(lambda: queue.counters.crashes == 2 * attempt + 2 and "owned" not in spool.states())  # noqa: B023
                clock.move(3000)
            assert spool.states() == ["held", "held"]

    run(loop, main)


@pytest.mark.parametrize("kind", ["at once", "later"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_s_que_16_whatever_a_route_raises_ends_nothing_else(loop: str, kind: str, error: type[BaseException]) -> None:
    async def main() -> None:
        sink = Sink()

        def route(recipient: ehlo.Recipient) -> SmartHost:
            if "bad" in str(recipient.path):
                raise error
            return SmartHost("127.0.0.1", server.port, tls="off")

        async def later(recipient: ehlo.Recipient) -> SmartHost:
            await anyio.lowlevel.checkpoint()
            return route(recipient)

        async with serving(sink) as server, running(route if kind == "at once" else later) as (queue, spool, clock):
            for recipients in (["bad@d.example"], ["bad@d.example", "good@d.example"]):
                await queue.submit(("a@b.example", recipients), CONTENT)
            for attempt in range(3):
                await until(lambda: queue.counters.crashes == 2 * attempt + 2 and "owned" not in spool.states())  # noqa: B023
                clock.move(3000)
            assert spool.states() == ["held", "held"]
        assert len(sink.got) == 1

    # trio sets a handler of its own for SIGINT, and so does asyncio.run: an interrupt of the program's is told apart.
    run(loop, main)


def test_s_que_16_limits_of_a_route_that_raise_are_those_of_all_routes(loop: str) -> None:
    async def main() -> None:
        sink = Sink()

        def limits(name: str) -> DeliveryLimits:
            raise SystemExit

        async with relaying(sink, route_limits=limits) as (queue, spool, _):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: spool.ended)
        assert len(sink.got) == 1

    run(loop, main)


def test_s_que_16_a_text_that_raises_holds_what_it_was_to_tell(loop: str) -> None:
    def text(status: object) -> str:
        raise SystemExit

    async def main() -> None:
        async with running(lambda recipient: Fail("550 5.1.1 no"), notice_text=text) as (
            queue,
            spool,
            _,
        ):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: "held" in spool.states())

    run(loop, main)


def test_s_que_17_an_outcome_that_could_not_be_stored_is_stored_later(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        spool = MemorySpool(finish_errors=2)
        async with relaying(sink, spool=spool) as (queue, _, clock):
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: sink.got and spool.finish_errors < 2)
            while not spool.ended:
                clock.move(30)
                await anyio.sleep(0.001)
        assert len(sink.got) == 1

    run(loop, main)


def test_c_que_18_drain_ends_what_goes_on(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink) as (queue, spool, _):
            for number in range(20):
                await queue.submit(("a@b.example", [f"c{number}@d.example"]), CONTENT)
            assert await queue.drain(5)
            ended = len(spool.ended)
            assert ended == len(sink.got)
            await queue.submit(("a@b.example", ["late@d.example"]), CONTENT)
        assert len(sink.got) == ended
        left = spool.states()
        assert len(left) == 21 - ended
        assert set(left) <= {"owned", "ready"}  # ready: the end came within the attempt

    run(loop, main)


def test_news_that_come_while_the_news_before_are_read_are_heeded(loop: str) -> None:
    async def main() -> None:
        async with relaying(Sink()) as (queue, spool, clock):
            read = spool.suspensions
            reads = 0

            async def slow() -> list[Suspension]:
                nonlocal reads
                reads += 1
                found = await read()
                if reads == 1:  # it is decided when the answer is on its way
                    await spool.suspend(Suspension("relay:mx", clock.time() + 60, "why", clock.time()))
                    queue._delivery._hear()
                return found

            spool.suspensions = slow  # type: ignore[method-assign]
            queue._delivery._hear()
            await until(lambda: "relay:mx" in queue._delivery.suspended)

    run(loop, main)


def test_c_que_19_connections_are_used_again(loop: str) -> None:
    async def main() -> None:
        sink = Sink()
        async with relaying(sink, limits=DeliveryLimits(messages=10, most=1, first=1)) as (queue, spool, clock):
            for _ in range(25):
                await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: len(spool.ended) == 25)
            assert sink.connections == 3
            await until(lambda: next(iter(queue._delivery.channels.values())).idle)
            clock.move(3)
            await until(lambda: not next(iter(queue._delivery.channels.values())).workers)
            await queue.submit(("a@b.example", ["c@d.example"]), CONTENT)
            await until(lambda: len(spool.ended) == 26)
            assert sink.connections == 4

    run(loop, main)


# ---- the way in ------------------------------------------------------------------------------------------------


def test_b_dsn_15_dsn_is_announced_by_who_does_it(loop: str) -> None:
    async def main() -> None:
        async with (
            running(lambda recipient: Hold("here")) as (queue, spool, _),
            serving(QueueHandler(queue)) as server,
            connect(server.port) as client,
        ):
            assert client.capabilities.name == "mx.example"
            assert "DSN" in client.capabilities
            assert "BINARYMIME" not in client.capabilities
            sender = ehlo.Sender("a@b.example", ret="HDRS", envid="e 1", body="8BITMIME")
            recipient = ehlo.Recipient("c@d.example", notify=("DELAY",), orcpt=("rfc822", "x@d.example"))
            await client.send(CONTENT + b"\xc3\xbc\r\n", sender, [recipient])
            await until(lambda: "held" in spool.states())
        [row] = spool.rows.values()
        assert (row.message.ret, row.message.envid, row.message.body) == ("HDRS", "e 1", "8BITMIME")
        assert (row.message.eight_bit, row.message.utf8_header) == (True, False)
        assert (row.message.hello, row.message.peer) == ("client.example", "127.0.0.1")
        assert (row.recipient.notify, row.recipient.orcpt) == (frozenset({"DELAY"}), ("rfc822", "x@d.example"))
        assert queue.server_config(tls="starttls").requiretls

    run(loop, main)


@pytest.mark.parametrize("kind", [QueueHandler, StreamingQueueHandler])
def test_s_que_10_received_names_the_cipher_suite(loop: str, kind: type[QueueHandler], authority: Authority) -> None:
    async def main() -> None:
        async with (
            running(lambda recipient: Hold("here")) as (queue, spool, _),
            serving(kind(queue), tls=authority.server()) as server,
            connect(server.port, tls="required", ssl_context=authority.client()) as client,
        ):
            octets = "Subject: ü\r\n\r\n".encode()
            await client.send(octets, "a@b.example", ["c@d.example"], utf8_header=True)
            await until(lambda: "held" in spool.states())
        [row] = spool.rows.values()
        assert row.message.utf8_header
        assert b"with UTF8SMTPS" in spool.contents[row.message.id]
        assert b" tls TLS_" in spool.contents[row.message.id].replace(b"\r\n", b"")

    run(loop, main)


def test_s_que_14_lmtp_has_one_answer_for_each_recipient(loop: str) -> None:
    async def main() -> None:
        async with (
            running(lambda recipient: Hold("here")) as (queue, spool, _),
            serving(QueueHandler(queue), config=queue.server_config(lmtp=True)) as server,
            connect(server.port, config=ehlo.ClientConfig(lmtp=True)) as client,
        ):
            result = await client.send(CONTENT, "a@b.example", ["c@d.example", "e@d.example"])
            await until(lambda: spool.states() == ["held", "held"])
        assert [one.reply.code for one in result.recipients] == [250, 250]

    run(loop, main)


def test_s_que_14_a_client_that_leaves_in_the_content_leaves_nothing(loop: str) -> None:
    async def main() -> None:
        async with (
            running(lambda recipient: Hold("here")) as (queue, spool, _),
            serving(StreamingQueueHandler(queue)) as server,
        ):
            client = await connect(server.port)

            async def half() -> Any:
                yield CONTENT
                await until(lambda: spool.stages and spool.stages[0].octets)
                client.abort()
                yield b"more"

            with pytest.raises(ehlo.EhloError):
                await client.send(half(), "a@b.example", ["c@d.example"])
            await until(lambda: spool.stages[0].discarded)
        assert not spool.rows

    run(loop, main)
