"""Routes, TLS policies and the retry schedule."""

from __future__ import annotations

import pytest

import ehlo
from ehlo.mta._retry import RetrySchedule
from ehlo.mta._routes import Fail, Lmtp, Maildir, Mbox, SmartHost
from ehlo.mta._tls_policy import TlsPolicy

# ---- the schedule ----


def test_c_que_01_the_intervals_and_the_end() -> None:
    schedule = RetrySchedule()
    due, dues = 0.0, []
    attempts = 1
    while (
        following := schedule.next_attempt(attempts, now=due, arrived=0, null_sender=False, random=lambda: 0.5)
    ) is not None:
        dues.append(following - due)
        due, attempts = following, attempts + 1
    assert dues[:9] == [300, 600, 1200, 2400, 3600, 7200, 10800, 14400, 14400]
    assert due == 5 * 86400  # the last attempt is at the end
    assert schedule.next_attempt(1, now=86400, arrived=0, null_sender=True) is None
    assert schedule.next_attempt(9, now=86399, arrived=0, null_sender=True) == 86400


def test_c_que_01_the_interval_varies_by_a_tenth() -> None:
    schedule = RetrySchedule()
    for chance, expected in ((0.0, 270.0), (1.0, 330.0)):
        due = schedule.next_attempt(1, now=0, arrived=0, null_sender=False, random=lambda: chance)  # noqa: B023
        assert due == pytest.approx(expected)


@pytest.mark.parametrize("options", [{"intervals": ()}, {"intervals": (-1,)}, {"lifetime": -1}, {"jitter": 1.0}])
def test_a_schedule_that_is_none(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"schedule|jitter"):
        RetrySchedule(**options)  # type: ignore[arg-type]


# ---- routes ----


def test_a_smart_host_with_a_password_is_verified() -> None:
    assert SmartHost("h", 587, auth=("a", "b")).policy == TlsPolicy("verified")
    assert SmartHost("h").policy == TlsPolicy("opportunistic")
    assert SmartHost("h", tls="off").policy == TlsPolicy("off")
    assert SmartHost("h").key == "relay:h:25"
    assert "secret" not in repr(SmartHost("h", auth=("a", "secret")))


def test_where_lmtp_is() -> None:
    assert Lmtp("unix:/run/lmtp").path == "/run/lmtp"
    assert Lmtp("localhost:24").address == ("localhost", 24)
    assert Lmtp("[::1]:24").address == ("::1", 24)
    for wrong in ("", "unix:", "localhost", "localhost:x", ":24", "h:0", "h:70000"):
        with pytest.raises(ehlo.LocalProtocolError):
            Lmtp(wrong)


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("joe+list@D.example", "/m/d.example/joe+list"),
        ('"../x"@d.example', "/m/d.example/%2E.%2Fx"),
        ("Postmaster", None),
    ],
)
def test_s_que_02_an_address_does_not_leave_the_folder(address: str, folder: str | None) -> None:
    route = Maildir("/m/{domain}/{local_part}")
    if folder is None:
        with pytest.raises(ehlo.LocalProtocolError):
            route.folder(ehlo.Recipient(address))
    else:
        assert route.folder(ehlo.Recipient(address)) == folder


def test_fail_takes_a_refusal() -> None:
    assert Fail("550 5.1.1 no").status == ehlo.Reply(550, "5.1.1", "no")
    with pytest.raises(ehlo.LocalProtocolError):
        Fail("450 4.2.1 later")


# ---- TLS ----


def test_the_policy_names_hosts() -> None:
    policy = TlsPolicy("verified", hosts=("mx.d.example", "*.e.example"))
    assert policy.permits("MX.d.example")
    assert policy.permits("a.e.example")
    assert not policy.permits("e.example")
    assert TlsPolicy().permits("any")


def test_c_que_03_requiretls_needs_a_verified_server() -> None:
    assert TlsPolicy("off").with_requiretls().level == "verified"
    assert TlsPolicy("opportunistic", hosts=("a",)).with_requiretls() == TlsPolicy("verified", hosts=("a",))
    assert TlsPolicy("implicit").with_requiretls().level == "implicit"


def test_what_a_policy_means_to_connect() -> None:
    assert TlsPolicy("off").options()["tls"] == "off"
    assert TlsPolicy("required").options()["ssl_context"].check_hostname is False
    assert TlsPolicy("verified").options() == {"tls": "required", "ssl_context": None}
    assert TlsPolicy("opportunistic").falls_back
    assert not TlsPolicy("required").falls_back


def test_where_mailboxes_and_sockets_are() -> None:
    joe = ehlo.Recipient("Joe@Example.org")
    box = Mbox("/var/mail/{local_part}", 0o660, recipient_field="Delivered-To")
    assert (box.folder(joe), box.key) == ("/var/mail/joe", "mbox")
    assert Maildir("/m/{domain}").key == "maildir"
    routes: set[object] = {Maildir("/m"), Mbox("/m")}
    assert len(routes) == 2
    local = SmartHost("localhost", path="/run/relay")
    assert (local.key, local.policy.level) == ("relay:unix:/run/relay", "off")
    assert SmartHost("localhost", auth=("jane", "x"), path="/run/relay", tls="verified").policy.is_verified
    assert "secret" not in repr(Lmtp("unix:/run/lmtp", auth=("jane", "secret")))
