"""XCLIENT and XFORWARD: the commands that say who the real client is (Postfix XCLIENT_README, XFORWARD_README).

The engine writes one command and reads its reply. Here the attributes are put into as many commands as they need.
"""

from __future__ import annotations

from typing import Final

from ehlo._client.link import Link
from ehlo._core import ClientAttributes, Reply, xtext_encode
from ehlo._errors import LocalProtocolError, SMTPNotSupportedError

__all__ = ["passed_on", "tell_client"]

# Octets of a command line with its CRLF (RFC 5321 4.5.3.1.4).
_LINE: Final = 512


# What XFORWARD says of a client (XFORWARD_README).
_XFORWARD: Final = ("name", "addr", "port", "proto", "helo", "ident", "source")


def passed_on(client: ClientAttributes | None) -> dict[str, str | int | None]:
    """The attributes that a client's XFORWARD had, to be said again to the next server; none of ``None``.

    Example::

        passed_on(session.xforward)
    """
    if client is None:
        return {}
    attributes: dict[str, str | int | None] = {name: getattr(client, name) for name in _XFORWARD}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    attributes |= {name.lower(): None for name in client.unavailable}
    return attributes | {name.lower(): "[TEMPUNAVAIL]" for name in client.temporarily_unavailable}


async def tell_client(link: Link, name: str, attributes: dict[str, str | int | None]) -> Reply:
    """XCLIENT or XFORWARD, in as many commands as it takes, until one is refused: the last reply."""
    if not attributes:
        raise LocalProtocolError(f"{name}: nothing to tell of the client: give an attribute")
    reply = None
    for part in _parts(link, name, attributes):
        if link.is_over():  # after the last one (RFC 5321 3.8)
            raise link.error()
        if name == "XFORWARD":
            reply = await link.ask(link.conn.xforward(part))
        else:
            link.ready = False
            reply = await link.ask(link.conn.xclient(part))
            if reply.is_positive:
                await _hello_again(link)
            else:
                link.ready = True
        if not reply.is_positive:
            break
    assert reply is not None
    return reply


async def _hello_again(link: Link) -> None:
    try:
        await link.until_ready()
    except BaseException:
        link.abort()
        raise


def _parts(link: Link, name: str, given: dict[str, str | int | None]) -> list[list[tuple[str, str]]]:
    """What the server lists of the attributes, in lines that it can take, the address last: after it the server may
    trust us no more (C-PXY-20, XCLIENT_README).
    """
    text = next((text for keyword, text in link.conn.capabilities.keywords if keyword.upper() == name), "")
    listed = text.upper().split()
    attributes = {key.upper(): _value(key, value) for key, value in given.items()}
    attributes = {key: attributes[key] for key in sorted(attributes, key="ADDR".__eq__) if key in listed}
    if not attributes:
        offer = f"only {name} {' '.join(listed)}" if listed else f"no {name}"
        raise SMTPNotSupportedError(f"the server offers {offer}", transcript=link.transcript)
    parts: list[list[tuple[str, str]]] = []
    room, whole = 0, _LINE - len(f"{name}\r\n")
    for key, value in attributes.items():
        size = len(f" {key}={xtext_encode(value.encode())}")
        if size > whole:
            raise LocalProtocolError(f"{name}: the value of {key} does not fit in a line of {_LINE} octets")
        if size > room:
            parts.append([])
            room = whole
        parts[-1].append((key, value))
        room -= size
    return parts


def _value(key: str, value: str | int | None) -> str:
    if value is None:
        return "[UNAVAILABLE]"
    text = str(value)
    if key.upper() in ("ADDR", "DESTADDR"):
        import ipaddress

        try:
            return f"IPV6:{text}" if ipaddress.ip_address(text).version == 6 else text
        except ValueError:
            pass
    return text
