"""SASL mechanisms: the RFCs' own examples, both sides against each other, and messages that are wrong."""

from __future__ import annotations

import base64
import itertools
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo._sasl.common import MAX_ITERATIONS, MECHANISMS, saslprep
from ehlo._sasl.server import Accept, Ask, Refuse, SaslContext, Send, ServerExchange, Step

USERS = {"test": "1234", "tim": "tanstaaftanstaaf", "user": "pencil", "Jürgen": "Geheimnis Ω"}
BINDING = ("tls-exporter", bytes(range(32)))
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def on_auth(credentials: ehlo.Credentials) -> Any:
    match credentials:
        case ehlo.PasswordCredentials() | ehlo.CramCredentials():
            return credentials.check(USERS.get(credentials.username))
        case ehlo.ScramCredentials():
            password = USERS.get(credentials.username)
            return password and ehlo.ScramKeys.from_password(password, algorithm=credentials.algorithm)
        case ehlo.TokenCredentials():
            return ehlo.Identity(credentials.identity) if credentials.check(TOKEN) else None
        case ehlo.ExternalCredentials():
            return ehlo.Identity(f"{credentials.certificate}/{credentials.authzid}")
    raise AssertionError(credentials)


def run(
    name: str, initial: bytes | None, *responses: bytes, context: SaslContext | None = None, handler: Any = on_auth
) -> list[Step]:
    """Every step of a server's exchange but the questions to the program."""
    exchange = ServerExchange(name, context)
    waiting = list(responses)
    steps: list[Step] = []
    step = exchange.start(initial)
    while True:
        if isinstance(step, Ask):
            step = exchange.decide(handler(step.credentials))
            continue
        steps.append(step)
        if not isinstance(step, Send) or not waiting:
            return steps
        step = exchange.respond(waiting.pop(0))


def code(steps: list[Step]) -> int:
    (step,) = steps[-1:]
    assert isinstance(step, Refuse)
    return step.reply.code


def meet(client: ehlo.ClientMechanism, context: SaslContext | None = None, handler: Any = on_auth) -> Step:
    """Both sides of an exchange, the initial response sent when there is one."""
    exchange = ServerExchange(client.name, context)
    step = exchange.start(client.initial())
    for _ in range(10):
        match step:
            case Ask():
                step = exchange.decide(handler(step.credentials))
            case Send():
                step = exchange.respond(client.respond(step.challenge))
            case Accept():
                client.verify()
                return step
            case Refuse():
                return step
    raise AssertionError("no end")


PASSWORD = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"]
BOUND = SaslContext(channel_bindings=dict([BINDING]), offered=MECHANISMS, certificate="cert")


@pytest.mark.parametrize("name", PASSWORD)
@pytest.mark.parametrize("username", ["test", "Jürgen"])
def test_both_sides_agree(name: str, username: str) -> None:
    binding = BINDING if name.endswith("PLUS") else None
    good = ehlo.client_mechanism(name, username=username, password=USERS[username], channel_binding=binding)
    assert meet(good, BOUND) == Accept(username)
    assert good.done
    # S-AUT-14: a wrong password and a wrong user look alike
    refused = []
    for user, password in ((username, "wrong"), ("nobody", USERS[username])):
        bad = ehlo.client_mechanism(name, username=user, password=password, channel_binding=binding)
        refused.append(meet(bad, BOUND))
        with pytest.raises(ehlo.SaslError):
            ehlo.client_mechanism(name, username=user, password=password, channel_binding=binding).verify()
    assert refused == [Refuse(ehlo.Reply(535, "5.7.8", "Authentication credentials invalid"))] * 2


def test_every_mechanism_is_on_both_sides() -> None:
    for name in MECHANISMS:
        client = ehlo.client_mechanism(
            name, username="test", password="1234", token=TOKEN, channel_binding=BINDING, host="mx.example", port=587
        )
        assert client.name == name
        offered = BOUND if name.endswith("PLUS") else SaslContext(certificate="cert")
        assert isinstance(meet(client, offered), Accept)
    with pytest.raises(ehlo.LocalProtocolError, match="no mechanism"):
        ehlo.client_mechanism("DIGEST-MD5", username="a", password="b")
    assert code(run("DIGEST-MD5", None)) == 504


# ---- the RFCs' examples --------------------------------------------------------------------------


def test_b_aut_20_plain() -> None:
    assert run("PLAIN", base64.b64decode("AHRlc3QAMTIzNA==")) == [Accept("test")]
    assert run("PLAIN", None, b"\0test\x001234") == [Send(b""), Accept("test")]
    # RFC 4616 2: to act as another is not a matter of the password. Only a program that says so lets it be.
    assert code(run("PLAIN", b"other\0test\x001234")) == 535
    assert run("PLAIN", b"test\0test\x001234") == [Accept("test")]
    agreed = run("PLAIN", b"other\0test\x001234", handler=lambda credentials: ehlo.Identity(credentials.authzid))
    assert agreed == [Accept("other")]
    asked = []
    run("PLAIN", b"other\0test\x001234", handler=lambda c: asked.append(c))
    assert (asked[0].authzid, asked[0].username, asked[0].password) == ("other", "test", "1234")
    for wrong in (b"", b"test", b"test\x001234", b"\0test\x00123\x004", b"\0\x001234", b"\0test\0", b"\0t\xe9st\x001"):
        assert code(run("PLAIN", wrong)) == 501, wrong
    long = b"\0" + b"u" * 255 + b"\0" + b"p" * 255
    assert code(run("PLAIN", long)) == 535
    assert ehlo.client_mechanism("plain", username="test", password="1234").initial() == b"\0test\x001234"


def test_b_aut_21_login() -> None:
    assert run("LOGIN", None, b"test", b"1234") == [Send(b"Username:"), Send(b"Password:"), Accept("test")]
    assert run("LOGIN", b"test", b"1234") == [Send(b"Password:"), Accept("test")]
    assert code(run("LOGIN", None, b"", b"1234")) == 501
    assert code(run("LOGIN", None, b"\xff")) == 501
    client = ehlo.client_mechanism("LOGIN", username="test", password="1234")
    assert client.initial() is None
    assert [client.respond(prompt) for prompt in (b"User Name\0", b"")] == [b"test", b"1234"]
    client.verify()
    with pytest.raises(ehlo.SaslError):
        client.respond(b"Again:")


def test_b_aut_22_cram_md5() -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"  # RFC 2195 2
    client = ehlo.client_mechanism("CRAM-MD5", username="tim", password="tanstaaftanstaaf")
    assert client.initial() is None
    assert client.respond(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"
    seen = ehlo.CramCredentials(
        mechanism="CRAM-MD5", username="tim", challenge=challenge, digest="b913a602c7eda7a495b4e6e7334d3890"
    )
    assert seen.check("tanstaaftanstaaf")
    assert not seen.check("tanstaaftanstaat")
    assert not seen.check(None)
    first, second = (run("CRAM-MD5", None, context=SaslContext(hostname="mx.example"))[0] for _ in "ab")
    assert isinstance(first, Send)
    assert first != second
    assert first.challenge.startswith(b"<")
    assert first.challenge.endswith(b"@mx.example>")
    assert code(run("CRAM-MD5", b"x")) == 501  # S-AUT-09
    digest = b"b913a602c7eda7a495b4e6e7334d3890"
    for wrong in (
        b"",
        b"tim",
        digest,
        b" " + digest,
        b"tim " + digest.upper(),
        b"tim " + digest[1:],
        b"\xff " + digest,
    ):
        assert code(run("CRAM-MD5", None, wrong)) == 501, wrong
    asked = []
    run("CRAM-MD5", None, b"jane doe " + digest, handler=lambda c: asked.append(c))
    assert asked[0].username == "jane doe"


VECTORS = [
    (
        "SCRAM-SHA-1",  # RFC 5802 5
        ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92"),
        [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    ),
    (
        "SCRAM-SHA-256",  # RFC 7677 3
        ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ=="),
        [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    ),
]


@pytest.mark.parametrize(("name", "random", "lines"), VECTORS, ids=["sha1", "sha256"])
def test_b_aut_23_scram_vectors(name: str, random: tuple[str, str, str], lines: list[str]) -> None:
    ours, theirs, salt = random
    first, server_first, final, server_final = (line.encode() for line in lines)
    client = ehlo.client_mechanism(name, username="user", password="pencil", nonce=ours)
    assert client.initial() == first
    assert (client.respond(server_first), client.done) == (final, False)
    assert (client.respond(server_final), client.done) == (b"", True)  # B-AUT-24
    client.verify()

    def handler(credentials: ehlo.Credentials) -> ehlo.ScramKeys:
        assert isinstance(credentials, ehlo.ScramCredentials)
        return ehlo.ScramKeys.from_password("pencil", algorithm=credentials.algorithm, salt=base64.b64decode(salt))

    context = SaslContext(nonce=lambda: theirs)
    steps = run(name, first, final, b"", context=context, handler=handler)
    assert steps == [Send(server_first), Send(server_final), Accept("user")]
    # B-AUT-24: the server's last message is a challenge of its own, and what answers it is empty
    assert code(run(name, first, final, b"x", context=context, handler=handler)) == 501


def scram(nonce: str = "ours") -> ehlo.ClientMechanism:
    client = ehlo.client_mechanism("SCRAM-SHA-256", username="user", password="pencil", nonce=nonce)
    client.initial()
    return client


def test_b_aut_23_the_client_looks_closely() -> None:
    for wrong, why in [
        ("r=other,s=c2FsdA==,i=4096", "nonce"),
        ("r=ours,s=c2FsdA==,i=4096", "nonce"),
        ("r=ours1,s=c2FsdA==,i=4095", "iterations"),
        (f"r=ours1,s=c2FsdA==,i={MAX_ITERATIONS + 1}", "iterations"),
        ("r=ours1,s=c2FsdA==,i=-1", "malformed"),
        ("r=ours1,s=c2FsdA==,i=", "malformed"),
        ("r=ours1,s=?,i=4096", "malformed"),
        ("s=c2FsdA==,r=ours1,i=4096", "malformed"),
        ("m=x,r=ours1,s=c2FsdA==,i=4096", "malformed"),
        ("", "malformed"),
        ("\udcff", "malformed"),
    ]:
        with pytest.raises(ehlo.SaslError, match=why):
            scram().respond(wrong.encode("utf-8", "surrogateescape"))
    for wrong, why in [
        ("v=AAAA", "password"),
        ("v=?", "malformed"),
        ("e=invalid-proof", "invalid-proof"),
        ("", "malf"),
    ]:
        client = scram()
        client.respond(b"r=ours1,s=c2FsdA==,i=4096")
        with pytest.raises(ehlo.SaslError, match=why):
            client.respond(wrong.encode())
        # a 235 that comes all the same does not make it good
        with pytest.raises(ehlo.SaslError):
            client.verify()


def test_b_aut_23_the_server_looks_closely() -> None:
    nonce = SaslContext(nonce=lambda: "theirs")

    def answer(change: Callable[[str], str]) -> int:
        client = scram()
        (step,) = run("SCRAM-SHA-256", client.initial(), context=nonce, handler=keys)
        assert isinstance(step, Send)
        final = client.respond(step.challenge).decode()
        return code(run("SCRAM-SHA-256", client.initial(), change(final).encode(), context=nonce, handler=keys))

    kept = ehlo.ScramKeys.from_password("pencil")

    def keys(_: object) -> ehlo.ScramKeys:
        return kept

    assert answer(lambda final: final.replace("r=ours", "r=hers")) == 535
    assert answer(lambda final: final.replace("c=biws", "c=eSws")) == 535
    assert answer(lambda final: final[:-10] + "AAAAAAAAA=") == 535
    assert answer(lambda final: final.rpartition(",")[0]) == 501
    assert answer(lambda final: final.replace(",p=", ",p=AAAA")) == 501
    assert answer(lambda final: final + ",x=1") == 501
    assert answer(lambda final: "") == 501
    for wrong in (
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,r=x,n=user",
        b"n,,m=1,n=user,r=x",
        b"n,,n=,r=x",
        b"n,,n=a=b,r=x",
        b"n,,n=user,r=",
        b"n,,n=user,r=\xc3\xa9",
        b"p=tls-unique,,n=user,r=x",
        b"x,,n=user,r=x",
        b"\xff",
    ):
        assert code(run("SCRAM-SHA-256", wrong, handler=keys)) == 501, wrong
    for iterations, salt in ((4095, b"salt"), (4096, b"")):
        with pytest.raises(ehlo.LocalProtocolError):
            ehlo.ScramKeys(salt, iterations, b"", b"")


def test_b_aut_23_the_channel_is_bound() -> None:
    def client(binding: tuple[str, bytes] = BINDING) -> ehlo.ClientMechanism:
        return ehlo.client_mechanism("SCRAM-SHA-256-PLUS", username="user", password="pencil", channel_binding=binding)

    assert meet(client(), BOUND) == Accept("user")
    for other in ((BINDING[0], b"another channel"), ("tls-unique", BINDING[1])):  # a man in the middle
        step = meet(client(other), BOUND)
        assert isinstance(step, Refuse)
        assert step.reply.code == 535
    with pytest.raises(ehlo.LocalProtocolError, match="binding"):
        ehlo.client_mechanism("SCRAM-SHA-256-PLUS", username="user", password="pencil")


def test_b_aut_25_downgrade() -> None:
    could = ehlo.client_mechanism("SCRAM-SHA-256", username="user", password="pencil", channel_binding=BINDING)
    assert (could.initial() or b"").startswith(b"y,,")
    step = meet(could, BOUND)  # we did offer -PLUS
    assert isinstance(step, Refuse)
    assert step.reply.code == 535
    could = ehlo.client_mechanism("SCRAM-SHA-256", username="user", password="pencil", channel_binding=BINDING)
    assert meet(could, SaslContext(offered=frozenset({"SCRAM-SHA-256"}))) == Accept("user")
    cannot = ehlo.client_mechanism("SCRAM-SHA-256", username="user", password="pencil")
    assert meet(cannot, BOUND) == Accept("user")


def test_scram_names_and_authzid() -> None:
    client = ehlo.client_mechanism("SCRAM-SHA-256", username="a=b,c", password="pw", authzid="x,y", nonce="n")
    assert client.initial() == b"n,a=x=2Cy,n=a=3Db=2Cc,r=n"
    client = ehlo.client_mechanism("SCRAM-SHA-256", username="a=b,c", password="pw", authzid="x,y")
    seen = []

    def handler(credentials: ehlo.Credentials) -> ehlo.ScramKeys:
        seen.append((credentials.username, credentials.authzid))
        return ehlo.ScramKeys.from_password("pw")

    # RFC 4422 3.4.1: the keys say who it is, not whom it may act as.
    step = meet(client, handler=handler)
    assert isinstance(step, Refuse)
    assert step.reply.code == 535
    assert seen == [("a=b,c", "x,y")]
    client = ehlo.client_mechanism("SCRAM-SHA-256", username="a=b,c", password="pw", authzid="a=b,c")
    assert meet(client, handler=handler) == Accept("a=b,c")


def test_a_scram_user_that_is_not_there_has_one_salt() -> None:
    salts = set()
    for _ in range(3):
        (step,) = run("SCRAM-SHA-256", b"n,,n=nobody,r=x", context=SaslContext(nonce=lambda: "y"))
        salts.add(step)
    (other,) = run("SCRAM-SHA-256", b"n,,n=someone,r=x", context=SaslContext(nonce=lambda: "y"))
    assert len(salts | {other}) == 2


def test_a_decoy_fits_no_password() -> None:
    def decoy(credentials: ehlo.Credentials) -> ehlo.ScramKeys:
        return ehlo.ScramKeys.decoy(credentials.username, secret=b"secret", iterations=10_000)

    client = ehlo.client_mechanism("SCRAM-SHA-256", username="nobody", password="pencil")
    step = meet(client, handler=decoy)
    assert isinstance(step, Refuse)
    assert step.reply.code == 535
    one, other = (ehlo.ScramKeys.decoy("nobody", secret=b"secret", iterations=10_000) for _ in "ab")
    assert (one.salt, one.iterations) == (other.salt, other.iterations)
    assert one.stored_key != other.stored_key


# RFC 7628 4.1 and 4.4, as they go over the wire
GOOD = (
    "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmd"
    "DRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
)
BAD = (
    "bix1c2VyPXNvbWV1c2VyQGV4YW1wbGUuY29tLAFhdXRoPUJlYXJl"
    "ciB2RjlkZnQ0cW1UYzJOdmIzUmxja0JoZEhSaGRtbHpkR0V1WTI5dENnPT0BAQ=="
)
ERROR = (
    "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciBtYWMiLCJzY29wZSI6Imh0"
    "dHBzOi8vbWFpbC5leGFtcGxlLmNvbS8ifQ=="
)


def test_b_aut_26_oauthbearer() -> None:
    client = ehlo.client_mechanism(
        "OAUTHBEARER",
        username="user@example.com",
        token="vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
        host="server.example.com",
        port=587,
    )
    initial = client.initial()
    assert initial is not None
    assert base64.b64encode(initial).decode() == GOOD.replace("\n", "")
    client.verify()
    assert run("OAUTHBEARER", base64.b64decode(GOOD)) == [Accept("user@example.com")]
    asked = []
    run("OAUTHBEARER", base64.b64decode(GOOD), handler=lambda c: asked.append(c))
    assert (asked[0].host, asked[0].port) == ("server.example.com", 587)

    said = ehlo.OAuthError("invalid_token", schemes="bearer mac", scope="https://mail.example.com/")
    steps = run("OAUTHBEARER", base64.b64decode(BAD), base64.b64decode("AQ=="), handler=lambda c: said)
    assert steps[0] == Send(base64.b64decode(ERROR))
    assert code(steps) == 535
    assert client.respond(base64.b64decode(ERROR)) == b"\x01"
    assert client.error == json.loads(base64.b64decode(ERROR))  # type: ignore[attr-defined]
    with pytest.raises(ehlo.SaslError):
        client.verify()
    for wrong in (
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01auth=Bearer x\x01",
        b"n,,\x01auth=Basic x\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"p=x,,\x01auth=Bearer x\x01\x01",
        b"n,,\x01port=x\x01auth=Bearer x\x01\x01",
        b"n,a=b=c,\x01auth=Bearer x\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
    ):
        assert code(run("OAUTHBEARER", wrong)) == 501, wrong
    assert code(run("OAUTHBEARER", b"n,,\x01auth=bEaReR x\x01\x01", b"\x01")) == 535


def test_b_aut_27_xoauth2() -> None:
    client = ehlo.client_mechanism("XOAUTH2", username="test", token=TOKEN)
    assert client.initial() == f"user=test\x01auth=Bearer {TOKEN}\x01\x01".encode()
    assert meet(client) == Accept("test")
    for dummy in (b"", b"\x01"):
        steps = run("XOAUTH2", b"user=test\x01auth=Bearer stale\x01\x01", dummy)
        assert isinstance(steps[0], Send)
        assert json.loads(steps[0].challenge)["status"] == "401"
        assert code(steps) == 535
    client = ehlo.client_mechanism("XOAUTH2", username="test", token="stale")
    client.initial()
    assert client.respond(b'{"status":"401"}') == b""
    assert code(run("XOAUTH2", b"user=test\x01auth=Bearer x\x01")) == 501
    assert code(run("XOAUTH2", b"auth=Bearer x\x01\x01")) == 501
    down = run("XOAUTH2", f"user=test\x01auth=Bearer {TOKEN}\x01\x01".encode(), handler=lambda c: "454 4.7.0 later")
    assert code(down) == 454


def test_b_aut_28_external() -> None:
    context = SaslContext(certificate="CN=jane")
    assert run("EXTERNAL", b"", context=context) == [Accept("CN=jane/")]
    assert run("EXTERNAL", None, b"joe", context=context) == [Send(b""), Accept("CN=jane/joe")]
    assert code(run("EXTERNAL", b"")) == 535  # no certificate
    assert code(run("EXTERNAL", b"a\0b", context=context)) == 501
    assert ehlo.client_mechanism("EXTERNAL").initial() == b""


# ---- verdicts ------------------------------------------------------------------------------------


def test_only_a_yes_lets_in() -> None:
    initial = b"\0test\x001234"
    for refusal in (None, False):
        assert code(run("PLAIN", initial, handler=lambda c, refusal=refusal: refusal)) == 535
    assert code(run("PLAIN", initial, handler=lambda c: "534 5.7.9 too weak")) == 534
    assert code(run("PLAIN", initial, handler=lambda c: ehlo.Reply(432, "4.7.12", "new password"))) == 432
    assert run("PLAIN", initial, handler=lambda c: ehlo.Identity("jane")) == [Accept("jane")]
    for name, verdict in [
        ("PLAIN", "250 2.0.0 fine"),
        ("PLAIN", "jane"),
        ("PLAIN", 1),
        ("PLAIN", ehlo.ScramKeys.from_password("x")),
        ("SCRAM-SHA-256", True),
        ("SCRAM-SHA-256", ehlo.Identity("x")),
        ("OAUTHBEARER", True),
        ("EXTERNAL", True),
    ]:
        message = {
            "PLAIN": initial,
            "SCRAM-SHA-256": b"n,,n=u,r=x",
            "OAUTHBEARER": b"n,,\x01auth=Bearer x\x01\x01",
            "EXTERNAL": b"",
        }
        exchange = ServerExchange(name, SaslContext(certificate="cert"))
        assert isinstance(exchange.start(message[name]), Ask)
        with pytest.raises((TypeError, ehlo.EhloError)):
            exchange.decide(verdict)  # type: ignore[arg-type]
        # what raised once does not say yes when it is asked again
        with pytest.raises(ehlo.LocalProtocolError, match="over"):
            exchange.respond(b"")


def test_b_aut_34_nothing_shows_a_secret() -> None:
    shown = []
    for name, initial in [
        ("PLAIN", b"\0test\0s3cret"),
        ("OAUTHBEARER", b"n,a=t,\x01auth=Bearer s3cret\x01\x01"),
        ("XOAUTH2", b"user=t\x01auth=Bearer s3cret\x01\x01"),
    ]:
        step = ServerExchange(name).start(initial)
        shown.append(repr(step))
    for name in PASSWORD:
        client = ehlo.client_mechanism(name, username="u", password="s3cret", channel_binding=BINDING)
        shown += [repr(client), str(client)]
    shown.append(repr(ehlo.client_mechanism("XOAUTH2", username="u", token="s3cret")))
    keys = ehlo.ScramKeys.from_password("s3cret")
    shown += [repr(keys), repr(Send(b"s3cret")), repr(SaslContext(secret=b"s3cret"))]
    assert "s3cret" not in "".join(shown)
    assert repr(keys.stored_key) not in repr(keys)
    assert pickle.loads(pickle.dumps(keys)) == keys


def test_check_is_false_for_nobody() -> None:
    def seen(password: str) -> ehlo.PasswordCredentials:
        return ehlo.PasswordCredentials(mechanism="PLAIN", username="u", password=password)

    assert seen("pw").check("pw")
    assert seen("pw").check(b"pw")
    assert seen("I\u00adX").check("IX")  # SASLprep, RFC 4013 3
    assert not seen("").check(None)
    assert not seen("pw").check("pwx")
    token = ehlo.TokenCredentials(mechanism="XOAUTH2", username="u", token="t")
    assert token.check("t")
    assert token.check(b"t")
    assert not token.check("")
    assert not token.check(None)


def test_saslprep() -> None:
    # RFC 4013 3
    for given_, prepared in [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX")]:
        assert saslprep(given_) == prepared
    for wrong in ("\u0007", "\u06271"):
        with pytest.raises(ValueError, match=r"RFC (4013|3454)"):
            saslprep(wrong)


def test_a_client_needs_what_the_mechanism_needs() -> None:
    for name, arguments in [
        ("PLAIN", {}),
        ("PLAIN", {"username": "u"}),
        ("PLAIN", {"username": "u", "password": ""}),
        ("PLAIN", {"username": "u\0", "password": "p"}),
        ("LOGIN", {"username": "u", "password": "p", "authzid": "x"}),
        ("XOAUTH2", {"username": "u"}),
        ("XOAUTH2", {"username": "u\x01", "token": "t"}),
    ]:
        with pytest.raises(ehlo.LocalProtocolError):
            ehlo.client_mechanism(name, **arguments)  # type: ignore[arg-type]


@given(
    st.sampled_from(sorted(MECHANISMS)),
    st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), min_size=1, max_size=4),
    st.booleans(),
)
def test_no_message_of_a_client_raises(name: str, messages: list[bytes], initial: bool) -> None:
    steps = run(name, messages[0] if initial else None, *messages[initial:], context=BOUND, handler=lambda c: None)
    assert not isinstance(steps[-1], Accept)


@given(st.binary(max_size=80), st.sampled_from(sorted(MECHANISMS)))
def test_no_challenge_of_a_server_raises_but_its_own(challenge: bytes, name: str) -> None:
    client = ehlo.client_mechanism(name, username="u", password="p", token="t", channel_binding=BINDING)
    client.initial()
    for piece in itertools.repeat(challenge, 4):
        try:
            client.respond(piece)
        except ehlo.SaslError:
            break
