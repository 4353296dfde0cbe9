"""The certificate of [tls]: whether it fits its key and the name of this server, and when it ends."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any, Final

from ehlo._tls import Tls
from ehlo._words import counted
from ehlo.cli._receive import UsageError
from ehlo.cli._serve.findings import Finding

__all__ = ["check_certificate", "check_end"]

# Days before the end of a certificate in which there is a warning.
_DAYS: Final = 14
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL.
_OUT_OF_TIME: Final = (9, 10)


def check_certificate(
    about: str, certificate: str, key: str | None, hostname: str, now: datetime | None = None
) -> Finding:
    """Whether a certificate fits its key and this server's name, and when it ends.

    It is used in a handshake with ourselves, so nothing about it is left to guess.

    Arguments:
        about: how the settings call it.
        certificate, key: the files, PEM.
        hostname: the name that clients verify.
        now: the time.

    Example::

        check_certificate("tls.certificate", "fullchain.pem", "privkey.pem", "mx.example.org")
    """
    try:
        found = _own_certificate(certificate, key)
    except UsageError as exc:
        return Finding("error", about, str(exc))
    except ssl.SSLCertVerificationError as exc:
        return _not_verified(about, certificate, exc)
    except ssl.SSLError as exc:
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        return Finding("error", about, f"{certificate}: {reason}; name PEM files that belong together")
    except OSError as exc:
        return Finding("error", about, f"{certificate}: {exc.strerror}; name files that can be read")
    return _judged(about, certificate, found, hostname, datetime.now(UTC) if now is None else now)


def check_end(about: str, certificate: str, key: str | None, now: datetime | None = None) -> Finding | None:
    """Whether a certificate has ended, has not begun, or ends soon. ``None``: none of these, or it cannot be loaded.

    Arguments:
        about: how the settings call it.
        certificate, key: the files, PEM.
        now: the time.

    Example::

        check_end("tls.certificate", "fullchain.pem", "privkey.pem")
    """
    try:
        found = _own_certificate(certificate, key)
    except ssl.SSLCertVerificationError as exc:
        return _not_verified(about, certificate, exc) if exc.verify_code in _OUT_OF_TIME else None
    except (UsageError, OSError):  # the server that loads it says why
        return None
    return _end(about, certificate, found, datetime.now(UTC) if now is None else now)


def _own_certificate(certificate: str, key: str | None) -> dict[str, Any]:
    """The certificate, as a client sees it that trusts nothing else."""

    def no_password() -> str:
        raise UsageError(f"the key has a password; store it without one: openssl pkey -in {key or certificate}")

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key, no_password)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    ours, theirs = Tls(server, server_side=True), Tls(client, server_side=False)
    while not (ours.established and theirs.established):
        theirs.shake_hands()
        ours.receive(theirs.data_to_send())
        ours.shake_hands()
        theirs.receive(ours.data_to_send())
    return dict(theirs.object.getpeercert() or {})


def _not_verified(about: str, certificate: str, exc: ssl.SSLCertVerificationError) -> Finding:
    return Finding("error", about, f"{certificate}: {exc.verify_message}; get a new one")


def _end(about: str, certificate: str, found: dict[str, Any], now: datetime) -> Finding | None:
    ends = _end_of(found)
    days = (ends - now).days
    if days < 0:
        return Finding("error", about, f"{certificate} ended on {ends:%Y-%m-%d}; get a new one")
    if days < _DAYS:
        return Finding("warning", about, f"{certificate} ends in {counted(days, 'day')}, on {ends:%Y-%m-%d}; renew it")
    return None


def _end_of(found: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC)


def _judged(about: str, certificate: str, found: dict[str, Any], hostname: str, now: datetime) -> Finding:
    end = _end(about, certificate, found, now)
    if end is not None and end.level == "error":
        return end
    names = [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    wild = "*." + hostname.partition(".")[2]
    if not {name.lower() for name in names} & {hostname.lower(), wild.lower()}:
        text = (
            f"{certificate} is for {', '.join(names) or 'no name'}, not for {hostname}; get one for it, or set hostname"
        )
        return Finding("warning", about, text)
    if end is not None:
        return end
    text = f"{certificate} is for {hostname}, fits its key, and ends on {_end_of(found):%Y-%m-%d}"
    return Finding("OK", about, text)
