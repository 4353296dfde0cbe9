"""Routes, aliases and senders: who may send where, and the settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ehlo
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.aliases import Aliases
from ehlo.cli._serve.into_queue import queue_route
from ehlo.cli._serve.settings import read_settings
from ehlo.cli._serve.site import RefusedError, Site
from ehlo.mta import Fail

DOMAINS = ["example.org", "example.net"]


def aliases(text: str) -> Aliases:
    return Aliases(text, "aliases", DOMAINS)


# ---- aliases -------------------------------------------------------------------------------------


def test_aliases_stand_for_all_that_they_lead_to() -> None:
    found = aliases(
        "# who is who\n\n"
        "info: jane, joe@elsewhere.example\n"
        "all: info,\n  jim\n"
        "jane: jane, archive@elsewhere.example\n"  # the mailbox itself, and a copy
        "Sales@Example.NET: jim\n"
    )
    assert found.find("info", "example.org") == (
        "jane@example.org",
        "archive@elsewhere.example",
        "joe@elsewhere.example",
    )
    assert found.find("ALL", "example.net")[-1] == "jim@example.net"  # type: ignore[index]
    assert found.find("sales", "example.net") == ("jim@example.net",)
    assert found.find("sales", "example.org") is None
    assert found.find("info", "elsewhere.example") is None
    assert found.find("info+spring", "example.org") == found.find("info", "example.org")
    assert found.without_tag("jane+x") == "jane"
    assert found.without_tag("+x") == "+x"
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: b\nb: a", "aliases line 1: these aliases form a circle: a@example.org -> b@example.org -> a@example.org"),
        ("a: b\nb: c@example.net\nc@example.net: b@example.org", "form a circle"),
        ("a b: c", "aliases line 1: 'a b' is neither a local part nor an address"),
        ("a: b@", "is neither a local part nor an address"),
        ("a", "a line is NAME: TARGET, TARGET"),
        ("a:", "a line is NAME: TARGET, TARGET"),
        ("a: b\n\nA: c", "aliases line 3: A occurs twice, first in line 1"),
    ],
)
def test_aliases_that_are_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        aliases(text)
    assert says in str(caught.value)


# ---- routes --------------------------------------------------------------------------------------


class Client:
    """A session as far as routes look at it."""

    def __init__(self, identity: str | None = None, address: str = "192.0.2.1") -> None:
        self.identity = identity
        self.peer = (address, 1234)


ROUTES: list[dict[str, Any]] = [
    {"domains": ["example.org"], "to": "maildir:mail/{local_part}", "recipients": "recipients"},
    {"domains": ["old.example"], "to": "fail:550 5.1.2 gone"},
    {"domains": [".example.org"], "to": "lmtp:127.0.0.1:24"},
    {"domains": ["bücher.example"], "to": "discard"},
    {"domains": ["far.example"], "from": ["users", "10.0.0.0/8"], "to": "smtp:127.0.0.1:25"},
    {"from": "users", "to": "mx"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipients").write_text("# who exists\njane\njoe+x@example.org\n@elsewhere.example\n")
    (tmp_path / "aliases").write_text("info: jane, joe@far.example\n")
    return tmp_path


def opened(folder: Path, **changes: Any) -> Site:
    values: dict[str, Any] = {"hostname": "mx.example.org", "listener": [{"port": 0}], "route": ROUTES}
    values |= {"queue": {"path": "spool"}, "aliases": {"file": "aliases"}}
    return Site.open(read_settings(values | changes, str(folder), "serve.toml"))


def where(site: Site, client: Client, address: str) -> str:
    try:
        targets = site.targets(client, ehlo.Recipient(address))  # type: ignore[arg-type]
    except RefusedError as exc:
        return str(exc.reply)
    return ", ".join(f"{target.recipient.path} by {target.way.kind}" for target in targets)


def test_a_route_that_fails_counts_in_the_queue_if_it_refuses_its_domains_for_everybody(folder: Path) -> None:
    fail = {"to": "fail:550 5.7.1 no"}
    routes = [
        {"domains": ["closed.example"], "to": "mx", "from": "users"},
        {"domains": ["inside.example"], "from": ["10.0.0.0/8"], **fail},
        {"domains": ["inside.example"], "to": "lmtp:127.0.0.1:24"},
        {"from": "users", **fail},
    ]
    site = opened(folder, route=routes, aliases={})
    route = queue_route(site)

    def way(address: str) -> str:
        found = route(ehlo.Recipient(address))
        return str(found.status) if isinstance(found, Fail) else type(found).__name__

    assert way("x@closed.example") == "Mx"
    routes[0] = {"domains": ["closed.example"], **fail}
    values = {"hostname": "mx.example.org", "listener": [{"port": 0}], "queue": {"path": "spool"}, "route": routes}
    site.reload(read_settings(values, str(folder), "serve.toml"))
    assert way("x@closed.example") == "550 5.7.1 no"
    assert site.notice_recipients("x@closed.example") == []
    # The queue knows no client, and a notification goes to senders anywhere.
    assert way("x@inside.example") == "Lmtp"
    assert way("x@far.example") == "Mx"
    assert site.notice_recipients("x@far.example") == ["x@far.example"]


def test_what_this_server_sends_is_not_refused_as_if_a_client_sent_it(folder: Path) -> None:
    """Notifications, the targets of aliases, and recipients that a filter added."""
    (folder / "aliases").write_text("info@inside.example: x@inside.example\n")
    routes = [
        {"domains": ["inside.example"], "from": ["10.0.0.0/8"], "to": "fail:550 5.7.1 no"},
        {"domains": ["inside.example"], "to": "lmtp:127.0.0.1:24"},
    ]
    site = opened(folder, route=routes)
    assert site.notice_recipients("x@inside.example") == ["x@inside.example"]
    assert where(site, Client(), "info@inside.example") == "x@inside.example by lmtp"
    assert where(site, Client(address="10.0.0.1"), "info@inside.example") == "550 5.7.1 no"
    (target,) = site.targets_added(ehlo.Recipient("x@inside.example"))
    assert target.way.kind == "lmtp"


def test_the_first_route_that_matches_counts(folder: Path) -> None:
    site = opened(folder)
    stranger, user, inside = Client(), Client("jane"), Client(address="::ffff:10.1.2.3")
    for client in (stranger, user, inside):
        assert where(site, client, "Jane@Example.ORG") == "Jane@Example.ORG by maildir"
        assert where(site, client, "nobody@example.org") == "550 5.1.1 No such user here"
        assert where(site, client, "x@old.example") == "550 5.1.2 gone"
        assert where(site, client, "x@lists.example.org") == "x@lists.example.org by lmtp"
        assert where(site, client, "x@xn--bcher-kva.example") == "x@xn--bcher-kva.example by discard"
        assert where(site, client, "Info@example.org") == "jane@example.org by maildir, joe@far.example by smtp"
        assert where(site, client, "jane+tag@example.org") == "jane@example.org by maildir"
        assert where(site, client, "joe+x@example.org") == "joe+x@example.org by maildir"
        assert where(site, client, "joe+y@example.org") == "550 5.1.1 No such user here"
        assert where(site, client, "Postmaster") == "postmaster@mx.example.org by lmtp"
    assert where(site, stranger, "x@far.example") == "550 5.7.1 No mail for that domain here"
    assert where(site, user, "x@far.example") == "x@far.example by smtp"
    assert where(site, user, "x@other.example") == "x@other.example by mx"
    assert where(site, inside, "x@other.example") == "550 5.7.1 No mail for that domain here"
    assert where(site, inside, "x@far.example") == "x@far.example by smtp"
    unknown = Client(address="unknown")  # XCLIENT ADDR=[UNAVAILABLE]
    assert where(site, unknown, "x@far.example") == "550 5.7.1 No mail for that domain here"


def test_quoted_local_parts_in_files(folder: Path) -> None:
    # The quotes are no part of a local part (RFC 5321 4.1.2).
    (folder / "aliases").write_text(
        '"press office": jane\n"all hands"@example.org: "j. doe"@far.example\n"info": jane\n'
    )
    (folder / "recipients").write_text('jane\n"joe doe"@example.org\n"ann doe"\n')
    site = opened(folder)
    for name in ('"press office"', '"Press\\ Office"', '"press office+x"', "info"):
        assert where(site, Client(), f"{name}@example.org") == "jane@example.org by maildir"
    assert where(site, Client(), '"all hands"@example.org') == '"j. doe"@far.example by smtp'
    assert where(site, Client(), '"joe doe"@example.org') == '"joe doe"@example.org by maildir'
    assert where(site, Client(), '"ann doe"@example.org') == '"ann doe"@example.org by maildir'


def test_reload_reads_files_again(folder: Path) -> None:
    site = opened(folder)
    (folder / "recipients").write_text("jim\njane\n")
    (folder / "aliases").write_text("info: jim\n")
    site.reload(site.settings)
    assert where(site, Client(), "info@example.org") == "jim@example.org by maildir"
    (folder / "aliases").write_text("info: jim, nobody\n")
    with pytest.raises(UsageError, match=r"line 1: nobody@example\.org is refused: 550 5\.1\.1"):
        site.reload(site.settings)
    assert where(site, Client(), "info@example.org") == "jim@example.org by maildir"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # A6: mail of users that would lie here for ever.
        ({"route": [{"to": "maildir:inbox"}]}, "serve.toml: [[route]] 1 would keep the mail of users"),
        ({"route": [{"to": "mbox:inbox", "from": "users"}]}, "would keep the mail of users"),
        ({"route": ROUTES[:4]}, "none takes the mail of users to other domains"),
        ({"route": [{"to": "mx"}]}, "would relay for everybody"),
        ({"route": [{"to": "mx", "from": ["users", "0.0.0.0/0"]}]}, "would relay for everybody"),
        ({"route": [{"to": "mx", "from": ["users", "::/1", "8000::/1"]}]}, "would relay for everybody"),
        ({"route": [ROUTES[5], ROUTES[0]]}, "differ only in from, but the queue does not know the client"),
        ({"route": [{"to": "mx", "from": "user"}]}, 'from is "users", "anybody" or a list of networks'),
        ({"queue": {"path": "spool", "paht": "x"}}, "queue.paht is no setting: did you mean path?"),
        ({"aliases": {"file": "gone"}}, "name a file that can be read"),
        ({"handler": {"use": "nowhere"}}, 'handler.use is like "my.module:Filter"'),
        ({"handler": {"use": "no_such_module:Filter"}}, "ModuleNotFoundError"),
    ],
)
def test_settings_that_lose_mail_are_refused(folder: Path, changes: dict[str, Any], says: str) -> None:
    from ehlo.cli._serve.front import load_filter

    (folder / "users").write_text(f"jane:{ehlo.hash_password('x', scram=True)}\n")
    (folder / "users").chmod(0o600)
    listeners = [{"port": 0}, {"protocol": "submission", "port": 0}]
    with pytest.raises(UsageError) as caught:
        load_filter(opened(folder, auth={"users": "users"}, listener=listeners, **changes).settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_with_several_targets_needs_a_queue(folder: Path) -> None:
    with pytest.raises(UsageError, match="line 1: a name with several targets needs a queue"):
        Site.open(
            read_settings(
                {
                    "hostname": "mx.example.org",
                    "listener": [{"port": 0}],
                    "route": [{"domains": ["example.org", "far.example"], "to": "discard"}],
                    "aliases": {"file": "aliases"},
                },
                str(folder),
            )
        )


# ---- senders -------------------------------------------------------------------------------------


def test_senders_of_users(folder: Path) -> None:
    (folder / "senders").write_text("# user: addresses\njane: sales@example.org, @Shop.example\njane: j@example.org\n")

    def allowed(rule: str, user: str) -> list[str]:
        site = opened(folder, auth={"from": rule})
        names = ["jane@example.org", "Jane@far.example", "sales@example.org", "x@shop.example", "j@example.org"]
        taken = [name for name in names if site.refused_sender(user, ehlo.Sender(name)) is None]
        assert site.refused_sender(user, ehlo.Sender("")) is None  # RFC 5321 4.5.5
        return taken

    assert len(allowed("any", "jane")) == 5
    assert allowed("own", "jane") == ["jane@example.org"]
    assert allowed("own", "jane@far.example") == ["Jane@far.example"]
    assert allowed("table:senders", "jane") == ["sales@example.org", "x@shop.example", "j@example.org"]
    assert allowed("table:senders", "joe") == []
    (folder / "senders").write_text("jane\n")
    with pytest.raises(UsageError, match="line 1: a line is USER: ADDRESS, @DOMAIN"):
        opened(folder, auth={"from": "table:senders"})
