"""[[dkim]]: signatures for the mail of users (RFC 6376, RFC 8463)."""

from __future__ import annotations

import email.policy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import ehlo
from ehlo._core import dkim_fields
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.routes import domain_key, is_client_of, networks_of
from ehlo.cli._serve.settings import Dkim, Settings

if TYPE_CHECKING:
    from ehlo.dkim import Signer

__all__ = ["Signing", "author_of", "read_signer"]

log: Final = logging.getLogger("ehlo.serve")


@dataclass(frozen=True, slots=True)
class _One:
    table: Dkim
    signer: Signer
    networks: tuple[Any, ...]

    def is_for(self, session: ehlo.Session) -> bool:
        """Whether it signs the mail of this client."""
        if session.identity is not None and "users" in self.table.from_:
            return True
        return is_client_of(session, self.networks)


@dataclass(frozen=True, slots=True)
class Signing:
    """The signers of each domain."""

    domains: dict[str, list[_One]] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Settings) -> Signing:
        """Read the keys.

        Raises:
            UsageError: a key cannot be read, or fits no signature.
        """
        found: dict[str, list[_One]] = {}
        seen: dict[tuple[str, str], str] = {}
        for table in settings.dkim:
            if not table.domain or not table.key_file:
                raise settings.error(f"{table.where}: {'key' if table.domain else 'domain'}", "is missing")
            if "anybody" in table.from_:
                raise settings.error(f"{table.where}: from", "must not be anybody: strangers would get our signature")
            domain = domain_key(table.domain)
            before = seen.setdefault((domain, table.selector), table.where)
            if before != table.where:
                raise settings.error(f"{table.where}: selector", f"is that of {before}; give each key its own")
            try:
                signer = read_signer(table)
            except ImportError as exc:
                raise settings.error("dkim", f"needs more packages: pip install 'ehlo[dkim]' ({exc})") from None
            except ehlo.LocalProtocolError as exc:
                raise settings.error(f"{table.where}:", str(exc)) from None
            except OSError as exc:
                raise UsageError(f"{table.where}: key {table.key_file}: {exc.strerror}; name a file to read") from None
            found.setdefault(domain, []).append(_One(table, signer, networks_of(table.from_)))
        return cls(found)

    def job(
        self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes, may_use: Callable[[str], bool]
    ) -> Callable[[], bytes] | None:
        """What gives the content with its signatures on top; ``None`` where there is nothing to sign.

        Content that other programs would read in another way is normalised, unless it came as BODY=BINARYMIME.

        Arguments:
            may_use: whether the client may write from this address.
        """
        if not any(one.is_for(session) for signers in self.domains.values() for one in signers):
            return None
        binary = envelope.sender.body == "BINARYMIME"
        try:
            fields, _ = dkim_fields(content)
        except ehlo.LocalProtocolError as exc:
            if binary:
                _complain(exc)
                return None
            from ehlo.dkim import normalized  # an extra, which is there if a key was read

            content = normalized(content)
            try:
                fields, _ = dkim_fields(content)
            except ehlo.LocalProtocolError as exc:
                _complain(exc)
                return None
        author = author_of(fields)
        if author is None or not may_use(author):
            return None
        chosen = [one.signer for one in self.domains.get(domain_of(author), ()) if one.is_for(session)]
        return partial(_signed, chosen, content, binary) if chosen else None


def read_signer(table: Dkim) -> Signer:
    """The signer of one table.

    Raises:
        ImportError: there is no cryptography.
        LocalProtocolError: the key, the domain or the selector fits no signature.
        OSError: the key cannot be read.
    """
    from ehlo.dkim import Signer

    with open(table.key_file, "rb") as file:
        pem = file.read()
    header: Any = table.header
    body: Any = table.body
    return Signer(pem, domain_key(table.domain), table.selector, header=header, body=body)


def domain_of(address: str) -> str:
    """The domain of an address, as :func:`domain_key` gives it."""
    return domain_key(address.rpartition("@")[2])


def author_of(fields: list[bytes]) -> str | None:
    """The address in the From field; ``None`` where there is not exactly one."""
    found = [one for one in fields if one[:5].lower() == b"from:"]
    if len(found) != 1:
        return None
    try:
        text = found[0][5:].decode("utf-8", "replace").replace("\r\n", "")
        addresses = email.policy.SMTPUTF8.header_factory("From", text).addresses
    except (ValueError, IndexError, AttributeError):  # Python's parser fails so for some input
        return None
    return addresses[0].addr_spec if len(addresses) == 1 and addresses[0].domain else None


def _signed(signers: list[Signer], content: bytes, binary: bool) -> bytes:
    from ehlo.dkim import normalized, sign

    try:
        return sign(signers, content) + content
    except ehlo.LocalProtocolError as exc:  # for the body: the header section was looked at
        if binary:
            _complain(exc)
            return content
    plain = normalized(content)
    return sign(signers, plain) + plain


def _complain(exc: ehlo.LocalProtocolError) -> None:
    log.warning("a message of a user goes out without a signature: %s", exc)
