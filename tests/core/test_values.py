"""Values can be kept: they pickle, copy, compare and hash, and come out of another process as they went in."""

from __future__ import annotations

import contextlib
import copy
import importlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import ehlo
import ehlo.testing
from ehlo import Reply

WAYS: list[Callable[[object], object]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, 6)),
]


def same(value: object) -> None:
    """Each way gives an equal value of the same class with the same hash and the same text."""
    for way in WAYS:
        other = way(value)
        assert type(other) is type(value)
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)
        assert str(other) == str(value)


def by_name(kind: object) -> str:
    """In this order the tests run, in every process."""
    return repr(kind)


def classes() -> Iterator[type[ehlo.EhloError]]:
    """Every exception of the package that a program can meet; without an extra those of its module are left out."""
    for name in ("ehlo", "ehlo.testing", "ehlo.mta", "ehlo.mta.dns", "ehlo.milter", "ehlo.store"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    seen, todo = set(), [ehlo.EhloError]
    while todo:
        kind = todo.pop()
        # The shapes of other libraries have the arguments of those; tests/compat looks at them.
        if kind not in seen and kind.__module__.startswith("ehlo") and not kind.__module__.startswith("ehlo.compat"):
            seen.add(kind)
            todo += kind.__subclasses__()
            yield kind


def an_error(kind: type[ehlo.EhloError]) -> ehlo.EhloError:
    """One with all that it can have."""
    reply = Reply(550, "5.1.1", ["no such", "user"])
    if kind.__name__ == "NoRoute":
        return kind(reply)
    if issubclass(kind, ehlo.SMTPException) and kind is not ehlo.CommandSyntaxError:
        return kind("text", reply=reply, transcript="C: QUIT\n")
    if kind is ehlo.CommandSyntaxError:
        return ehlo.CommandSyntaxError("text", reply)
    error = kind("text")
    if isinstance(error, ehlo.InvalidAddressError):
        error.address = ehlo.Address("a@b.example")
    return error


@pytest.mark.parametrize("kind", sorted(classes(), key=by_name))
def test_every_exception_survives(kind: type[ehlo.EhloError]) -> None:
    """FAULTS D4"""
    error = an_error(kind)
    same(error)
    for way in WAYS:
        other = way(error)
        assert isinstance(other, kind)
        assert vars(other) == vars(error)
        assert getattr(other, "is_temporary", None) == getattr(error, "is_temporary", None)
    assert error != kind.__new__(kind)
    assert error != ValueError("text")


def test_the_replies_of_refused_recipients_survive() -> None:
    """FAULTS D4"""
    error = ehlo.SMTPRecipientsRefused("text", recipients={"a@b.example": Reply(550)})
    same(error)
    assert copy.copy(error).recipients == {"a@b.example": Reply(550)}


def refuse() -> None:
    """What the process of the pool does."""
    raise ehlo.SMTPDataError("refused", reply=Reply(554, "5.6.0", "no"), transcript="S: 554 5.6.0 no\n")


@pytest.mark.slow
def test_out_of_a_process_pool_comes_the_same_exception() -> None:
    """FAULTS D4"""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(refuse).exception()
    assert error == ehlo.SMTPDataError("refused", reply=Reply(554, "5.6.0", "no"), transcript="S: 554 5.6.0 no\n")


SENDERS = [
    ehlo.Sender(""),
    ehlo.Sender("Jane@Example.ORG"),
    ehlo.Sender('"j\\.d"@example.org', body="8BITMIME", smtputf8=True, ret="HDRS", envid="order 7", auth="<>"),
    ehlo.Sender("a@b.example", deliver_by=(-3, "N", True), mt_priority=-2, requiretls=True),
    ehlo.Sender("a@b.example", hold_until="2026-11-28T06:00:00Z"),
    ehlo.Sender("a@b.example", hold_for=60),
    ehlo.Sender.from_parameters("a@b.example", "SIZE=1000 X-TRACE=7 Body=BINARYMIME X-FLAG"),
]
RECIPIENTS = [
    ehlo.Recipient("Postmaster"),
    ehlo.Recipient("POSTMASTER@b.example"),
    ehlo.Recipient("@a.example:c@[IPv6:::1]", notify=("SUCCESS", "DELAY"), orcpt=("utf-8", "\u00e9@b.example")),
    ehlo.Recipient("c@d.example", rrvs=("2026-11-28T06:00:00Z", "R")),
    ehlo.Recipient.from_parameters("c@d.example", "X=1 notify=NEVER"),
]


@pytest.mark.parametrize(
    "value",
    [
        ehlo.NULL,
        ehlo.Address('@a.example,@b.example:"a b"@C.example'),
        *(one.path for one in RECIPIENTS),
        *SENDERS,
        *RECIPIENTS,
        ehlo.Envelope(SENDERS[2], RECIPIENTS),
        Reply(250),
        Reply(550, "5.1.1", ["one", "", "three \u00e9"]),
        Reply(250, None, "2.0.0 this is text"),
        ehlo.parse_reply(b"250-\xff \x00\r\n250 x\r\n"),
        ehlo.parse_reply(b"599 5.0.0 " + b"x" * 300 + b"\r\n"),
    ],
    ids=repr,
)
def test_every_value_survives(value: object) -> None:
    """FAULTS D4"""
    same(value)
    for way in WAYS:
        for name in dir(value):
            if not name.startswith("_") and not callable(getattr(value, name)):
                assert getattr(way(value), name) == getattr(value, name), name


def test_values_that_say_the_same_are_equal() -> None:
    """FAULTS D4"""
    assert ehlo.Sender("a@b.c") == ehlo.Sender("a@b.c")
    assert ehlo.Sender("a@b.c") == ehlo.Sender("<a@B.C>")
    assert ehlo.Sender("a@b.c") != ehlo.Sender("A@b.c")
    assert ehlo.Sender("a@b.c") != ehlo.Sender("a@b.c", ret="FULL")
    one, other = (ehlo.Sender.from_parameters("a@b.c", text) for text in ("x=1 SIZE=2", "SIZE=2 X=1"))
    assert one == other
    assert hash(one) == hash(other)
    assert len({ehlo.Recipient("a@b.c"), ehlo.Recipient("a@B.c"), ehlo.Recipient("b@b.c")}) == 2
    envelopes = [ehlo.Envelope(one, [ehlo.Recipient("c@d.e")]), ehlo.Envelope(other, [ehlo.Recipient("c@D.e")])]
    assert len(set(envelopes)) == 1
    assert ehlo.Sender("a@b.c") != ehlo.Recipient("a@b.c")


def test_every_parameter_has_a_way_back() -> None:
    """FAULTS D4"""
    sender = ehlo.Sender.from_parameters("a@b.example", "SIZE=1000 X-TRACE=7 RET=HDRS")
    assert (sender.size, sender.ret) == (1000, "HDRS")
    assert ("X-TRACE", "7") in sender.parameters
    assert ehlo.Sender.from_parameters(sender.path, sender.mail_parameters) == sender
    recipient = ehlo.Recipient.from_parameters("a@b.example", "NOTIFY=NEVER X=1")
    assert recipient.notify == frozenset({"NEVER"})
    assert ehlo.Recipient.from_parameters(recipient.path, recipient.rcpt_parameters) == recipient
    assert ehlo.Sender.from_parameters(ehlo.NULL).mail_parameters == ""


@pytest.mark.parametrize("text", ["X=a\r\nRCPT", "X=a\nb", "=", "X=\x00", "\u00e9=1"])
def test_parameters_that_cannot_be_written_are_refused(text: str) -> None:
    """FAULTS D4, D18"""
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Sender.from_parameters("a@b.example", text)
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Recipient.from_parameters("a@b.example", text)
    for known in ("SIZE=x", "SIZE=1 SIZE=2"):
        with pytest.raises(ehlo.LocalProtocolError):
            ehlo.Sender.from_parameters("a@b.example", known)


def test_what_a_lenient_server_took_survives() -> None:
    """FAULTS D4. A parameter that the server does not offer has no field, before and after."""
    lenient = ["dots_in_local_part", "domain_underscore", "bare_paths", "space_after_colon", "extra_space"]
    command = ehlo.parse_command(b"MAIL FROM: a..b.@c_d.example  X=1\r\n", lenient=lenient)
    assert command.sender is not None
    same(command.sender)
    same(command.sender.path)


def test_the_null_path_says_so() -> None:
    """FAULTS D4"""
    assert ehlo.NULL.is_null
    assert copy.deepcopy(ehlo.NULL) is ehlo.NULL
    assert not ehlo.Address("a@b.example").is_null
    assert not ehlo.Recipient("Postmaster").path.is_null


def sent(*replies: bytes, recipients: int = 2) -> ehlo.SendResult:
    """What a client makes of these replies to MAIL, each RCPT, DATA and the content; then the connection ends."""
    client = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
    client.receive_data(b"220 mx.example\r\n250-mx.example\r\n250 PIPELINING\r\n")
    client.send_message("a@b.example", [f"{number}@d.example" for number in range(recipients)], b"x\r\n")
    events = list(client)
    for reply in replies:
        client.data_to_send()
        client.receive_data(reply)
        events += list(client)
    client.receive_eof()
    events += list(client)
    (result,) = (event for event in events if isinstance(event, ehlo.SendResult))
    return result


@pytest.mark.parametrize(
    ("replies", "worst"),
    [
        ((b"250 a\r\n", b"250 b\r\n", b"250 c\r\n", b"354 d\r\n", b"250 e\r\n"), "250 e"),
        ((b"250 a\r\n", b"550 b\r\n", b"250 c\r\n", b"354 d\r\n", b"250 e\r\n"), "550 b"),
        ((b"250 a\r\n", b"450 b\r\n", b"250 c\r\n", b"354 d\r\n", b"250 e\r\n"), "450 b"),
        ((b"250 a\r\n", b"450 b\r\n", b"550 c\r\n", b"503 d\r\n"), "550 c"),
        ((b"250 a\r\n", b"550 b\r\n", b"250 c\r\n", b"354 d\r\n"), None),
        ((), None),
    ],
)
def test_the_worst_reply_of_all_recipients(replies: tuple[bytes, ...], worst: str | None) -> None:
    """FAULTS D12, D4"""
    result = sent(*replies)
    assert (None if result.worst is None else str(result.worst)) == worst
    same(result)
    for one in result.recipients:
        same(one)
    for way in WAYS:
        other = way(result)
        assert isinstance(other, ehlo.SendResult)
        assert (other.failure, other.explanation, other.is_temporary) == (
            result.failure,
            result.explanation,
            result.is_temporary,
        )
    error = ehlo.SMTPDataError("text", reply=result.worst, transcript="C: DATA\n", result=result)
    same(error)


@pytest.mark.parametrize("space", [" ", "\t"])
def test_a_value_cannot_become_a_second_parameter(space: str) -> None:
    """FAULTS D18"""
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Sender("a@b.example", ret=f"HDRS{space}REQUIRETLS")  # type: ignore[arg-type]
    with pytest.raises(ehlo.LocalProtocolError):
        ehlo.Recipient("a@b.example", rrvs=(f"2026-11-28T06:00:00Z{space}NOTIFY=NEVER", None))
