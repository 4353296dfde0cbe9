"""The MTA's side of the milter protocol, without I/O: every command, answer and modification, and every broken one."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo.milter import (
    Actions,
    AddHeader,
    AddRecipient,
    Broken,
    ChangeHeader,
    ChangeSender,
    Command,
    Decision,
    InsertHeader,
    MilterClient,
    MilterLimits,
    Negotiated,
    Progress,
    Quarantine,
    RemoveRecipient,
    ReplaceBody,
    Stage,
    Steps,
    Verdict,
)

MACROS = {"j": "mx.example", "i": "id1", "{auth_authen}": "joe"}


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("!I", 1 + len(payload)) + kind + payload


def frames(octets: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while octets:
        (length,) = struct.unpack_from("!I", octets)
        found.append((octets[4:5], octets[5 : 4 + length]))
        octets = octets[4 + length :]
    return found


def options(version: int = 6, actions: int = 0x1FF, steps: int = 0, macros: bytes = b"") -> bytes:
    return frame(b"O", struct.pack("!III", version, actions, steps) + macros)


def ready(version: int = 6, actions: int = 0x1FF, steps: int = 0, macros: bytes = b"") -> MilterClient:
    client = MilterClient()
    assert client.negotiate()
    client.data_to_send()
    client.receive_data(options(version, actions, steps, macros))
    assert isinstance(client.next_event(), Negotiated)
    return client


def say(client: MilterClient, awaited: bool, answer: bytes = b"c", payload: bytes = b"") -> list[object]:
    if awaited:
        client.receive_data(frame(answer, payload))
    return list(client)


STEPS: dict[Command, Callable[[MilterClient], bool]] = {
    Command.CONNECT: lambda client: client.connect("[192.0.2.1]", "192.0.2.1", 4711, MACROS),
    Command.HELLO: lambda client: client.hello("client.example", MACROS),
    Command.MAIL: lambda client: client.mail("a@b.example", ["SIZE=5"], MACROS),
    Command.RCPT: lambda client: client.rcpt("c@d.example", [], MACROS),
    Command.DATA: lambda client: client.data(MACROS),
    Command.HEADER: lambda client: client.header(b"Subject", b" a\r\n b"),
    Command.END_OF_HEADERS: lambda client: client.end_of_headers(MACROS),
    Command.BODY: lambda client: client.body(b"x\r\n"),
    Command.END: lambda client: client.end(MACROS),
}


def up_to(client: MilterClient, last: Command) -> None:
    """All steps in front of ``last``, each answered with continue."""
    for command, step in STEPS.items():
        if command is last:
            break
        say(client, step(client))
    client.data_to_send()


def test_the_octets_of_every_step() -> None:
    client = MilterClient()
    client.negotiate()
    assert frames(client.data_to_send()) == [(b"O", bytes.fromhex("00000006 000001ff 001fffff"))]
    client = ready()
    expected = {
        Command.CONNECT: [(b"D", b"Cj\0mx.example\0"), (b"C", b"[192.0.2.1]\x004\x12\x67192.0.2.1\0")],
        Command.HELLO: [(b"H", b"client.example\0")],
        Command.MAIL: [(b"D", b"Mi\0id1\0{auth_authen}\0joe\0"), (b"M", b"<a@b.example>\0SIZE=5\0")],
        Command.RCPT: [(b"D", b"Ri\0id1\0"), (b"R", b"<c@d.example>\0")],
        Command.DATA: [(b"D", b"Ti\0id1\0"), (b"T", b"")],
        Command.HEADER: [(b"L", b"Subject\0a\n b\0")],
        Command.END_OF_HEADERS: [(b"D", b"Ni\0id1\0"), (b"N", b"")],
        Command.BODY: [(b"B", b"x\r\n")],
        Command.END: [(b"D", b"Ei\0id1\0"), (b"E", b"")],
    }
    for command, step in STEPS.items():
        assert step(client)
        assert client.awaiting is command
        assert frames(client.data_to_send()) == expected[command]
        client.receive_data(frame(b"c"))
        assert list(client) == [Decision(command, Verdict.CONTINUE)]
    client.abort()
    assert client.unknown("XYZZY")
    client.receive_data(frame(b"c"))
    assert list(client) == [Decision(Command.UNKNOWN, Verdict.CONTINUE)]
    client.quit()
    assert frames(client.data_to_send()) == [(b"A", b""), (b"U", b"XYZZY\0"), (b"Q", b"")]


@pytest.mark.parametrize(
    ("address", "wire"),
    [("2001:db8::1", b"n\x006\0\x072001:db8::1\0"), ("/run/x", b"n\0L\0\x07/run/x\0"), (None, b"n\0U")],
)
def test_the_families_of_addresses(address: str | None, wire: bytes) -> None:
    client = ready()
    client.connect("n", address, 7)
    assert frames(client.data_to_send()) == [(b"C", wire)]


def test_a_second_session_by_quit_new_connection() -> None:
    client = ready()
    up_to(client, Command.END)
    ended(client, b"c")
    assert client.reusable
    client.quit_new_connection()
    assert frames(client.data_to_send()) == [(b"K", b"")]
    assert client.reusable
    assert STEPS[Command.CONNECT](client)
    assert not ready(version=4).reusable


def test_where_libmilter_ignores_it_no_second_session_is_offered() -> None:
    """Its table of states (NX_*) takes it behind the end of a message only, and not if that was accepted."""
    for command in (Command.HELLO, Command.MAIL, Command.RCPT, Command.HEADER, Command.END):
        client = ready()
        up_to(client, command)
        assert not client.reusable
    for verdict in b"art":
        client = ready()
        up_to(client, Command.END)
        ended(client, bytes([verdict]))
        assert not client.reusable
    client = ready()
    up_to(client, Command.END)
    ended(client, b"c")
    client.abort()
    assert not client.reusable
    with pytest.raises(ehlo.LocalProtocolError, match="another session"):
        client.quit_new_connection()


def test_a_filter_that_hears_of_no_connection_serves_one_session() -> None:
    client = ready(steps=Steps.NO_CONNECT)
    assert client.reusable  # no session was over it yet
    up_to(client, Command.END)
    ended(client, b"c")
    assert not client.reusable


def ended(client: MilterClient, verdict: bytes) -> None:
    """The end of the message, and the answer to it."""
    client.end()
    client.receive_data(frame(verdict))
    list(client)
    client.data_to_send()


def test_an_abort_stands_between_transactions() -> None:
    client = ready()
    up_to(client, Command.END)
    say(client, client.end())
    client.data_to_send()
    client.abort()
    client.mail("")
    assert [kind for kind, _ in frames(client.data_to_send())] == [b"A", b"M"]


def test_what_needs_no_answer_goes_out_in_one_write() -> None:
    unanswered = Steps(0xFF080)
    client = ready(steps=unanswered)
    for command, step in STEPS.items():
        assert step(client) is (command is Command.END)
    sent = [kind for kind, _ in frames(client.data_to_send()) if kind != b"D"]
    assert sent == [b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B", b"E"]


@pytest.mark.parametrize(
    ("bit", "command"),
    [
        (Steps.NO_CONNECT, Command.CONNECT),
        (Steps.NO_HELLO, Command.HELLO),
        (Steps.NO_MAIL, Command.MAIL),
        (Steps.NO_RCPT, Command.RCPT),
        (Steps.NO_DATA, Command.DATA),
        (Steps.NO_HEADERS, Command.HEADER),
        (Steps.NO_END_OF_HEADERS, Command.END_OF_HEADERS),
        (Steps.NO_BODY, Command.BODY),
    ],
)
def test_bits_leave_steps_out_with_their_macros(bit: Steps, command: Command) -> None:
    client = ready(steps=bit)
    assert not client.wants(command)
    sent = b""
    for step in STEPS.values():
        say(client, step(client))
        sent += client.data_to_send()
    kinds = [kind for kind, _ in frames(sent)]
    assert command.value not in kinds
    assert len([kind for kind in kinds if kind != b"D"]) == len(STEPS) - 1
    assert not [payload for kind, payload in frames(sent) if kind == b"D" and payload[:1] == command.value]


def test_old_versions_know_neither_data_nor_unknown() -> None:
    client = ready(version=2)
    up_to(client, Command.RCPT)
    assert not client.unknown("XYZZY")
    assert not client.data()
    assert ready(version=3).wants(Command.UNKNOWN)
    assert not ready(version=3).wants(Command.DATA)
    offered = MilterClient(version=2)
    offered.negotiate()
    assert frames(offered.data_to_send()) == [(b"O", bytes.fromhex("00000002 0000003f 0000007f"))]


@pytest.mark.parametrize(("steps", "sent"), [(0, b"S\0 a\n\tb\0"), (0x100000, b"S\0  a\n\tb\0")])
def test_one_leading_space_is_kept_only_if_asked_for(steps: int, sent: bytes) -> None:
    client = ready(steps=steps)
    up_to(client, Command.HEADER)
    client.header(b"S", b"  a\r\n\tb")
    assert frames(client.data_to_send()) == [(b"L", sent)]
    client = ready(steps=steps)
    up_to(client, Command.HEADER)
    client.header(b"S", b"\ta\0b")
    assert frames(client.data_to_send()) == [(b"L", b"S\0\ta b\0")]


def test_rejected_recipients_are_told_to_who_asked() -> None:
    client = ready()
    up_to(client, Command.RCPT)
    assert not client.rcpt("x@y.example", rejected=True)
    client = ready(steps=Steps.REJECTED_RECIPIENTS)
    up_to(client, Command.RCPT)
    assert client.rcpt("x@y.example", rejected=True)


def test_a_filter_chooses_its_macros_by_stage() -> None:
    chosen = struct.pack("!I", Stage.MAIL) + b"{i}, auth_authen\0" + struct.pack("!I", Stage.RCPT) + b"\0"
    client = ready(macros=chosen)
    up_to(client, Command.MAIL)
    say(client, STEPS[Command.MAIL](client))
    STEPS[Command.RCPT](client)
    sent = frames(client.data_to_send())
    assert [one for one in sent if one[0] == b"D"] == [(b"D", b"M{i}\0id1\0auth_authen\0joe\0")]


# ---- answers -------------------------------------------------------------------------------------

ANSWERS = {
    b"a": Verdict.ACCEPT,
    b"r": Verdict.REJECT,
    b"t": Verdict.TEMPFAIL,
    b"d": Verdict.DISCARD,
    b"4": Verdict.SHUTDOWN,
    b"f": Verdict.CONNECTION_FAILURE,
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("command", STEPS)
def test_every_answer_to_every_step(command: Command, answer: bytes) -> None:
    client = ready()
    up_to(client, command)
    events = say(client, STEPS[command](client), answer)
    if answer == b"d" and command in (Command.CONNECT, Command.HELLO):
        assert [type(event) for event in events] == [Broken]
        assert client.closed
        return
    assert events == [Decision(command, ANSWERS[answer])]
    client.data_to_send()
    rest = [step for other, step in STEPS.items() if list(STEPS).index(other) > list(STEPS).index(command)]
    over_for_session = command in (Command.CONNECT, Command.HELLO) or answer in (b"4", b"f")
    if command is Command.RCPT and answer in (b"r", b"t"):
        assert rest[0](client)
        return
    assert not any(step(client) for step in rest)
    assert client.data_to_send() == b""
    client.abort()
    assert client.mail("a@b.example") is not over_for_session


def test_replies_of_its_own() -> None:
    for said, reply in [
        (b"550 5.7.1 no %%20 here", ehlo.Reply(550, "5.7.1", "no %20 here")),
        (b"451 later", ehlo.Reply(451, None, "later")),
        (b"554-5.7.1 one\r\n554 5.7.1 two", ehlo.Reply(554, "5.7.1", ["one", "two"])),
        (b"550 4.7.1 classes differ", ehlo.Reply(550, None, "4.7.1 classes differ")),
        (b"450", ehlo.Reply(450)),
    ]:
        client = ready()
        up_to(client, Command.MAIL)
        assert say(client, client.mail(""), b"y", said + b"\0") == [Decision(Command.MAIL, Verdict.REPLY, reply)]


def test_skip_leaves_the_rest_of_the_body_out() -> None:
    client = ready(steps=Steps.SKIP)
    up_to(client, Command.BODY)
    assert say(client, client.body(b"x"), b"s") == [Decision(Command.BODY, Verdict.SKIP)]
    client.data_to_send()
    assert not client.body(b"y")
    assert client.end()
    assert frames(client.data_to_send()) == [(b"E", b"")]
    client.receive_data(frame(b"c"))
    client.abort()
    for command in list(STEPS)[2:-2]:
        say(client, STEPS[command](client))
    assert client.body(b"the next message")


def test_progress_decides_nothing() -> None:
    client = ready()
    up_to(client, Command.END)
    client.end()
    client.receive_data(frame(b"p") * 2 + frame(b"c"))
    assert list(client) == [Progress(), Progress(), Decision(Command.END, Verdict.CONTINUE)]


NUMBER = struct.pack("!I", 2)
MODIFICATIONS: list[tuple[bytes, bytes, object, Actions]] = [
    (b"h", b"X\0a\n b\0", AddHeader(b"X", b" a\r\n b"), Actions.ADD_HEADERS),
    (b"i", NUMBER + b"X\0a\0", InsertHeader(2, b"X", b" a"), Actions.ADD_HEADERS),
    (b"m", NUMBER + b"X\0a\0", ChangeHeader(2, b"X", b" a"), Actions.CHANGE_HEADERS),
    (b"m", NUMBER + b"X\0\0", ChangeHeader(2, b"X", b""), Actions.CHANGE_HEADERS),
    (b"+", b"<a@b>\0", AddRecipient("a@b"), Actions.ADD_RECIPIENTS),
    (b"2", b"<a@b>\0NOTIFY=NEVER\0", AddRecipient("a@b", "NOTIFY=NEVER"), Actions.ADD_RECIPIENTS_WITH_PARAMETERS),
    (b"2", b"a@b\0", AddRecipient("a@b"), Actions.ADD_RECIPIENTS_WITH_PARAMETERS),
    (b"-", b"<a@b>\0", RemoveRecipient("a@b"), Actions.REMOVE_RECIPIENTS),
    (b"e", b"<>\0", ChangeSender(""), Actions.CHANGE_SENDER),
    (b"e", b"<a@b>\0RET=HDRS\0", ChangeSender("a@b", "RET=HDRS"), Actions.CHANGE_SENDER),
    (b"b", b"x\0\r\n", ReplaceBody(b"x\0\r\n"), Actions.CHANGE_BODY),
    (b"q", b"odd\0", Quarantine("odd"), Actions.QUARANTINE),
]


@pytest.mark.parametrize(("kind", "payload", "event", "action"), MODIFICATIONS)
def test_every_modification(kind: bytes, payload: bytes, event: object, action: Actions) -> None:
    client = ready()
    up_to(client, Command.END)
    client.end()
    client.receive_data(frame(kind, payload) + frame(b"a"))
    assert list(client) == [event, Decision(Command.END, Verdict.ACCEPT)]
    client = ready(actions=0x1FF & ~action)  # not negotiated
    up_to(client, Command.END)
    client.end()
    client.receive_data(frame(kind, payload))
    assert [type(event) for event in client] == [Broken]
    client = ready()  # too early
    up_to(client, Command.BODY)
    client.body(b"")
    client.receive_data(frame(kind, payload))
    assert [type(event) for event in client] == [Broken]


def test_a_field_cannot_bring_another_one() -> None:
    client = ready()
    up_to(client, Command.END)
    client.end()
    client.receive_data(frame(b"h", b"X\0a\nBcc: b\n\nbody\rx\0"))
    assert list(client) == [AddHeader(b"X", b" a\r\n\tBcc: b\r\n\tbody x")]


BROKEN_ANSWERS = {
    "an empty frame": b"\0\0\0\0",
    "a huge frame": b"\xff\xff\xff\xffx",
    "an unknown answer": frame(b"?"),
    "a reply without its end": frame(b"y", b"550 no"),
    "a reply of two strings": frame(b"y", b"550 no\0\0"),
    "a positive reply": frame(b"y", b"250 ok\0"),
    "a reply of two codes": frame(b"y", b"550-a\r\n551 b\0"),
    "a reply that is text": frame(b"y", b"no\0"),
    "a negotiation": options(),
    "a field without value": frame(b"h", b"X\0"),
    "a field without name": frame(b"h", b"\0a\0"),
    "a field whose name is none": frame(b"h", b"X Y\0a\0"),
    "an index that is cut off": frame(b"m", b"\0\0"),
    "a recipient without its end": frame(b"+", b"<a@b>"),
    "three strings": frame(b"e", b"a\0b\0c\0"),
    "skip without the bit": frame(b"s"),
    "a second answer": frame(b"c") + frame(b"c"),
}


@pytest.mark.parametrize("octets", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_every_broken_answer(octets: bytes) -> None:
    client = ready()
    up_to(client, Command.END)
    client.end()
    client.receive_data(octets)
    *_, last = client
    assert isinstance(last, Broken)
    assert client.closed
    assert not client.reusable
    client.receive_data(frame(b"c"))
    assert client.next_event() is None
    with pytest.raises(ehlo.LocalProtocolError):
        client.mail("")


BROKEN_NEGOTIATIONS = {
    "another answer": frame(b"c"),
    "cut off": frame(b"O", b"\0\0\0\6"),
    "a newer version": options(version=7),
    "an old version": options(version=1),
    "actions that there are not": options(actions=0x200),
    "bits that there are not": options(steps=0x200000),
    "macros that are cut off": options(macros=b"\0\0"),
    "macros without their end": options(macros=b"\0\0\0\0j"),
    "macros of no stage": options(macros=b"\0\0\0\x09j\0"),
}


@pytest.mark.parametrize("octets", BROKEN_NEGOTIATIONS.values(), ids=BROKEN_NEGOTIATIONS)
def test_every_broken_negotiation(octets: bytes) -> None:
    client = MilterClient()
    client.negotiate()
    client.receive_data(octets)
    assert [type(event) for event in client] == [Broken]


def test_an_answer_to_nothing_and_the_end_of_the_connection() -> None:
    client = ready()
    client.receive_data(frame(b"c"))
    assert [type(event) for event in client] == [Broken]
    client = ready()
    client.receive_eof()
    assert list(client) == [Broken("the filter closed the connection")]


def test_misuse_is_told() -> None:
    with pytest.raises(ehlo.LocalProtocolError, match="versions 2 to 6"):
        MilterClient(version=1)
    client = ready()
    with pytest.raises(ehlo.LocalProtocolError, match="no session has begun"):
        client.mail("")
    STEPS[Command.CONNECT](client)
    with pytest.raises(ehlo.LocalProtocolError, match="CONNECT is still awaited"):
        client.hello("x")
    with pytest.raises(ehlo.LocalProtocolError):
        client.quit_new_connection()
    client = ready()
    up_to(client, Command.BODY)
    with pytest.raises(ehlo.LocalProtocolError, match="65535"):
        client.body(bytes(65536))


# ---- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (MilterLimits(modifications=2), frame(b"+", b"<a@b>\0") * 3),
        (MilterLimits(modified=20), frame(b"h", b"X\0" + bytes(b"a" * 20) + b"\0")),
        (MilterLimits(body=10), frame(b"b", b"123456") * 2),
        (MilterLimits(frame=64), frame(b"b", bytes(64))),
    ],
)
def test_what_a_filter_says_is_bounded(limits: MilterLimits, said: bytes) -> None:
    client = MilterClient(limits=limits)
    client.negotiate()
    client.receive_data(options())
    list(client)
    up_to(client, Command.END)
    client.end()
    client.receive_data(said)
    assert isinstance(list(client)[-1], Broken)


def test_memory_is_bounded_by_the_frame() -> None:
    client = ready()
    up_to(client, Command.END)
    client.end()
    piece = frame(b"b", bytes(65535))
    tracemalloc.start()
    for _ in range(200):
        for at in range(0, len(piece), 4096):
            client.receive_data(piece[at : at + 4096])
            while client.next_event() is not None:
                pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


PIECES = st.sampled_from(
    [frame(kind, payload) for kind, payload, _, _ in MODIFICATIONS]
    + [frame(b"p"), frame(b"c"), frame(b"a"), frame(b"y", b"550 no\0"), *BROKEN_ANSWERS.values()]
)


@given(st.lists(PIECES, max_size=6).map(b"".join), st.integers(1, 12))
def test_any_split_gives_the_same_events(octets: bytes, size: int) -> None:
    outcomes = []
    for width in (max(1, len(octets)), size, 1):
        client = ready()
        up_to(client, Command.END)
        client.end()
        events: list[object] = []
        for at in range(0, len(octets), width):
            client.receive_data(octets[at : at + width])
            events += client
        outcomes.append((events, client.closed, client.awaiting))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(st.lists(st.binary(max_size=40) | PIECES, max_size=8), st.sampled_from(list(STEPS)))
def test_no_octets_raise(pieces: list[bytes], command: Command) -> None:
    client = ready(steps=Steps.SKIP)
    up_to(client, command)
    STEPS[command](client)
    for piece in pieces:
        client.receive_data(piece)
    assert len(list(client)) <= sum(map(len, pieces)) + 1
