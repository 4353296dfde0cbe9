"""The Authentication-Results field (RFC 8601): written, read, and removed where it claims to be ours."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ehlo
from ehlo.dkim import AuthenticationResult as Result
from ehlo.dkim import authentication_results, parse_authentication_results, remove_claims

KEYWORDS = st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z0-9]", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), max_size=20)
PROPERTIES = st.dictionaries(st.tuples(KEYWORDS, KEYWORDS).map(".".join), TEXTS, max_size=3)
RESULTS = st.builds(Result, KEYWORDS, KEYWORDS, st.none() | TEXTS, PROPERTIES)


@given(TEXTS.filter(bool), st.lists(RESULTS, max_size=3))
def test_what_is_written_is_read(name: str, results: list[Result]) -> None:
    field = authentication_results(name, results)
    assert field.endswith(b"\r\n")
    assert parse_authentication_results(field.removeprefix(b"Authentication-Results:")) == (name, tuple(results))


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # RFC 8601 appendix B
        ("example.org 1; none", ("example.org", ())),
        (
            "example.com;\r\n spf=pass smtp.mailfrom=example.net",
            ("example.com", (Result("spf", "pass", None, {"smtp.mailfrom": "example.net"}),)),
        ),
        (
            'example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; sender-id=fail reason="x \\" y"',
            (
                "example.com",
                (
                    Result("auth", "pass", None, {"smtp.auth": "sender@example.net"}),
                    Result("sender-id", "fail", 'x " y'),
                ),
            ),
        ),
        (
            "foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
            "   policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't expecting it)"
            " 1362471462",
            ("foo.example.net", (Result("dkim", "fail", None, {"policy.expired": "1362471462"}),)),
        ),
        ("mx; dkim=pass header.b=a/b+c==", ("mx", (Result("dkim", "pass", None, {"header.b": "a/b+c=="}),))),
    ],
)
def test_the_examples_of_rfc_8601(value: str, expected: object) -> None:
    assert parse_authentication_results(value) == expected


@pytest.mark.parametrize("value", ["", ";", "mx.example; dkim", "mx.example; =pass", "mx.example; spf=pass x"])
def test_what_is_no_such_value(value: str) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        parse_authentication_results(value)


@given(st.text('ab;=."\\() \r\n\t1', max_size=40))
def test_nothing_else_is_raised(value: str) -> None:
    with contextlib.suppress(ehlo.LocalProtocolError):
        parse_authentication_results(value)
    remove_claims(b"Authentication-Results:" + value.encode() + b"\r\n\r\n", "a")


@pytest.mark.parametrize(
    "wrong", [("spf ", "pass"), ("spf", ""), ("spf", "pass", "a\nb"), ("spf", "pass", None, {"domain": "x"})]
)
def test_what_cannot_be_written(wrong: tuple[object, ...]) -> None:
    with pytest.raises(ehlo.LocalProtocolError):
        Result(*wrong)  # type: ignore[arg-type]
    with pytest.raises(ehlo.LocalProtocolError):
        authentication_results("")


def test_claims_to_be_ours_are_removed_and_no_others() -> None:
    theirs = b"Authentication-Results: other.example; spf=pass\r\nSubject: x\r\n"
    body = b"\r\nAuthentication-Results: mx.example; spf=pass\r\n"
    for claim in (
        b"Authentication-Results: mx.example; none\r\n",
        b"authentication-results :MX.Example;\r\n\tspf=pass\r\n\tx\r\n",
        b'Authentication-Results: "mx.example"; dkim=pass\r\n',
        b"Authentication-Results: (a (b) c) mx.example (d) 1; dkim=pass\r\n",
        b"Authentication-Results: (never closed mx.example; dkim=pass\r\n",
        b"Authentication-Results:\r\n mx.example; dkim=pass\n",
        b"Authentication-Results: mx.example; dkim=pass\r",
    ):
        assert remove_claims(claim + theirs + claim + body, "mx.example") == theirs + body, claim
        assert remove_claims(theirs + claim, "mx.example") == theirs, claim
    whole = theirs + body
    assert remove_claims(whole, "mx.example") is whole


def test_a_field_that_was_written_may_be_removed() -> None:
    field = authentication_results("mx.example", [Result("spf", "pass")])
    assert remove_claims(field + b"A: b\r\n\r\n", "mx.example") == b"A: b\r\n\r\n"
