"""The PROXY header in aiosmtpd's form: :class:`ProxyData`, :class:`ProxyTLV` and :func:`get_proxy`.

The header is read with aiosmtpd's tolerance, which is wider than the engine's: the program judges it in
``handle_PROXY``. A program that moves on has ``ehlo.Handler.on_proxy`` and :class:`ehlo.ProxyHeader`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, Final, Protocol

__all__ = [
    "AF",
    "PROTO",
    "V2_CMD",
    "V2_SIGNATURE",
    "AsyncReader",
    "MalformedTLV",
    "ProxyData",
    "ProxyTLV",
    "UnknownTypeTLV",
    "get_proxy",
    "read_header",
]

V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_START: Final = b"PROXY"
# Octets of the longest header of version 1 (PROXY protocol 2.1).
_V1_MAX: Final = 107
_UNSET: Final = object()

log: Final = logging.getLogger("mail.debug")


class V2_CMD(IntEnum):  # noqa: N801
    """The command of version 2 (PROXY protocol 2.2)."""

    LOCAL = 0
    PROXY = 1


class AF(IntEnum):
    """The family of the addresses. UNKNOWN of version 1 is ``UNSPEC``."""

    UNSPEC = 0
    INET = 1
    INET6 = 2
    UNIX = 3


class PROTO(IntEnum):
    """The transport. UNKNOWN of version 1 is ``UNSPEC``."""

    UNSPEC = 0
    STREAM = 1
    DGRAM = 2


class MalformedTLV(RuntimeError):  # noqa: N818
    """A TLV goes past the end of the header."""


class UnknownTypeTLV(KeyError):  # noqa: N818
    """A TLV has a type that has no name."""


class AsyncReader(Protocol):
    """What :func:`get_proxy` reads from: an :class:`asyncio.StreamReader` is one."""

    async def read(self, n: int = ...) -> bytes: ...

    async def readexactly(self, n: int) -> bytes: ...

    async def readuntil(self, separator: bytes = ...) -> bytes: ...


class ProxyTLV(dict[str, Any]):
    """The TLVs of a header of version 2, by name (PROXY protocol 2.2). A type without a name is ``"xNN"``.

    Example::

        tlv = ProxyTLV.from_raw(session.proxy_data.rest)
        tlv.AUTHORITY
    """

    PP2_TYPENAME: ClassVar[dict[int, str]] = {
        0x01: "ALPN",
        0x02: "AUTHORITY",
        0x03: "CRC32C",
        0x04: "NOOP",
        0x05: "UNIQUE_ID",
        0x20: "SSL",
        0x21: "SSL_VERSION",
        0x22: "SSL_CN",
        0x23: "SSL_CIPHER",
        0x24: "SSL_SIG_ALG",
        0x25: "SSL_KEY_ALG",
        0x30: "NETNS",
    }

    __slots__ = ("tlv_loc",)

    def __init__(self, *args: Any, _tlv_loc: dict[str, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tlv_loc: dict[str, int] = _tlv_loc

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def same_attribs(self, _raises: bool = False, **kwargs: Any) -> bool:
        """Whether each of these names has this value.

        Arguments:
            _raises: raise KeyError or ValueError instead of returning False.
        """
        return _same(lambda name: self.get(name, _UNSET), kwargs, _raises)

    @classmethod
    def parse(cls, data: bytes, partial_ok: bool = True, strict: bool = False) -> tuple[dict[str, Any], dict[str, int]]:
        """Read TLVs: their values and their offsets, by name.

        Arguments:
            partial_ok: keep what was read before a TLV that is cut short.
            strict: raise :class:`UnknownTypeTLV` for a type without a name.

        Raises:
            MalformedTLV: a TLV is cut short, and ``partial_ok`` is False.
            UnknownTypeTLV: see ``strict``.
        """
        values: dict[str, Any] = {}
        offsets: dict[str, int] = {}

        def read(block: bytes, offset: int) -> None:
            at = 0
            while at < len(block):
                kind, length = block[at], int.from_bytes(block[at + 1 : at + 3], "big")
                value = block[at + 3 : at + 3 + length]
                if len(value) < length:
                    raise MalformedTLV(f"TLV 0x{kind:02X} is malformed!")
                name = cls.PP2_TYPENAME.get(kind, f"x{kind:02X}")
                if strict and kind not in cls.PP2_TYPENAME:
                    raise UnknownTypeTLV(name)
                offsets[name] = offset + at
                if name == "SSL":
                    values["SSL_CLIENT"] = value[0]
                    values["SSL_VERIFY"] = int.from_bytes(value[1:5], "big")
                    values["SSL"] = False
                    read(value[5:], at)
                    values["SSL"] = True
                else:
                    values[name] = value
                at += 3 + length

        try:
            read(bytes(data), 0)
        except (MalformedTLV, IndexError):
            if not partial_ok:
                raise MalformedTLV("the TLVs are malformed") from None
        return values, offsets

    @classmethod
    def from_raw(cls, raw: bytes, strict: bool = False) -> ProxyTLV | None:
        """The TLVs of ``raw``; ``None`` if it is empty.

        Raises:
            MalformedTLV: a TLV is cut short.
        """
        if not raw:
            return None
        values, offsets = cls.parse(raw, partial_ok=False, strict=strict)
        return cls(values, _tlv_loc=offsets)

    @classmethod
    def name_to_num(cls, name: str) -> int | None:
        """The type with this name; ``None`` if there is none."""
        return next((kind for kind, known in cls.PP2_TYPENAME.items() if known == name), None)


@dataclass(slots=True, kw_only=True)
class ProxyData:
    """What a PROXY header said. It is true if the header is good; else ``error`` says what is wrong with it.

    Attributes:
        version: 1 or 2; ``None`` if it is no header.
        src_addr, dst_addr: IP addresses, or in version 2 the 108 octets of a Unix socket's path.
        rest: what stands behind UNKNOWN or UNSPEC, or the TLVs of version 2.
        whole_raw: the header as it came.
        tlv_start: where in ``whole_raw`` the TLVs begin.
    """

    version: int | None
    command: int | None = field(default=None, init=False)
    family: int | None = field(default=None, init=False)
    protocol: int | None = field(default=None, init=False)
    src_addr: IPv4Address | IPv6Address | bytes | None = field(default=None, init=False)
    dst_addr: IPv4Address | IPv6Address | bytes | None = field(default=None, init=False)
    src_port: int | None = field(default=None, init=False)
    dst_port: int | None = field(default=None, init=False)
    rest: bytes = field(default=b"", init=False)
    whole_raw: bytearray = field(default_factory=bytearray, init=False)
    tlv_start: int | None = field(default=None, init=False)
    error: str = field(default="", init=False)
    _tlv: ProxyTLV | None = field(default=None, init=False)

    @property
    def valid(self) -> bool:
        """Whether the header is good."""
        return not self.error and self.version is not None and self.protocol is not None

    @property
    def tlv(self) -> ProxyTLV | None:
        """The TLVs; ``None`` if there are none, or they are malformed."""
        if self._tlv is None:
            with contextlib.suppress(MalformedTLV):
                self._tlv = ProxyTLV.from_raw(self.rest)
        return self._tlv

    def with_error(self, error_msg: str, log_prefix: bool = True) -> ProxyData:
        """The same with an error, which is logged."""
        log.warning("%s%s", "PROXY error: " if log_prefix else "", error_msg)
        self.error = error_msg
        return self

    def same_attribs(self, _raises: bool = False, **kwargs: Any) -> bool:
        """Whether each of these attributes has this value; see :meth:`ProxyTLV.same_attribs`."""
        return _same(lambda name: getattr(self, name, _UNSET), kwargs, _raises)

    def __bool__(self) -> bool:
        return self.valid


def _same(get: Any, wanted: dict[str, Any], raises: bool) -> bool:
    for name, value in wanted.items():
        actual = get(name)
        if actual is not _UNSET and actual == value:
            continue
        if not raises:
            return False
        if actual is _UNSET:
            raise KeyError(f"notfound:{name}")
        raise ValueError(f"mismatch:{name} actual={actual!r} expect={value!r}")
    return True


def read_header(octets: bytes) -> tuple[ProxyData, int] | None:
    """The header at the front of ``octets``, good or bad, and how many octets it took; ``None`` asks for more.

    Example::

        read_header(b"PROXY UNKNOWN\\r\\nEHLO x\\r\\n")
    """
    if octets[:5] == _V1_START:
        end = octets.find(b"\n") + 1
        if not end:
            if len(octets) <= _V1_MAX:
                return None
            end = len(octets)
        return _read_v1(octets[:end]), end
    if octets[:5] == V2_SIGNATURE[: len(octets[:5])] and len(octets) >= 5:
        return _read_v2(octets)
    if len(octets) < 5:
        return None
    return _no_header(octets), len(octets)


def _no_header(octets: bytes) -> ProxyData:
    data = ProxyData(version=None)
    data.whole_raw = bytearray(octets)
    return data.with_error("PROXY unrecognized signature")


def _read_v1(line: bytes) -> ProxyData:
    data = ProxyData(version=1)
    data.whole_raw = bytearray(line)
    if len(line) > _V1_MAX:
        return data.with_error("PROXYv1 header too long")
    if not line.endswith(b"\r\n"):
        return data.with_error("PROXYv1 malformed")
    first, *words = line[len(_V1_START) : -2].split(b" ")
    if first or not words:
        return data.with_error("PROXYv1 wrong signature")
    protocol, *words = words
    if protocol == b"UNKNOWN":
        data.protocol, data.family = PROTO.UNSPEC, AF.UNSPEC
        data.rest = b"".join(b" " + word for word in words)
        return data
    version = {b"4": 4, b"6": 6}.get(protocol[-1:])
    if version is None:
        return data.with_error("PROXYv1 unrecognized family")
    data.family = AF.INET if version == 4 else AF.INET6
    if not protocol.startswith(b"TCP"):
        return data.with_error("PROXYv1 unrecognized protocol")
    data.protocol = PROTO.STREAM
    texts = [word.decode("latin-1") for word in words]
    try:
        source, destination = (ip_address(_word(texts, index, r"[0-9a-fA-F.:]+$")) for index in (0, 1))
    except ValueError:
        return data.with_error("PROXYv1 address malformed")
    if {source.version, destination.version} != {version}:
        return data.with_error(f"PROXYv1 address not IPv{version}")
    data.src_addr, data.dst_addr = source, destination
    try:
        data.src_port, data.dst_port = (int(_word(texts, index, r"[1-9]\d{0,4}|0$")) for index in (2, 3))
    except ValueError:
        return data.with_error("PROXYv1 port malformed")
    for name, port in (("src", data.src_port), ("dst", data.dst_port)):
        if port > 65535:
            return data.with_error(f"PROXYv1 {name} port out of bounds")
    if len(words) > 4:
        return data.with_error("PROXYv1 unrecognized extraneous data")
    return data


def _word(words: list[str], index: int, pattern: str) -> str:
    if index >= len(words) or not re.match(pattern, words[index]):
        raise ValueError
    return words[index]


def _read_v2(octets: bytes) -> tuple[ProxyData, int] | None:
    data = ProxyData(version=2)
    if len(octets) < 12:
        return None
    if octets[:12] != V2_SIGNATURE:
        return data.with_error("PROXYv2 wrong signature"), len(octets)
    if len(octets) < 16:
        return None
    command, family, length = struct.unpack("!BBH", octets[12:16])
    if command & 0xF0 != 0x20:
        return data.with_error("PROXYv2 illegal version"), len(octets)
    data.command, data.family, data.protocol = command & 0x0F, family >> 4, family & 0x0F
    for value, known, name in ((data.command, V2_CMD, "command"), (data.family, AF, "family")):
        if value not in set(known):
            return data.with_error(f"PROXYv2 unsupported {name}"), len(octets)
    if data.protocol not in set(PROTO):
        return data.with_error("PROXYv2 unsupported protocol"), len(octets)
    end = 16 + length
    if len(octets) < end:
        return None
    block = octets[16:end]
    data.whole_raw = bytearray(octets[:end])
    form = {AF.INET: "!4s4sHH", AF.INET6: "!16s16sHH", AF.UNIX: "!108s108s"}.get(AF(data.family))
    if form is None or data.protocol == PROTO.UNSPEC:
        data.rest = block
        return data, end
    size = struct.calcsize(form)
    if len(block) < size:
        return data.with_error("PROXYv2 truncated address"), end
    source, destination, *ports = struct.unpack(form, block[:size])
    make: Any = {AF.INET: IPv4Address, AF.INET6: IPv6Address}.get(AF(data.family), bytes)
    data.src_addr, data.dst_addr = make(source), make(destination)
    if ports:
        data.src_port, data.dst_port = ports
    data.rest, data.tlv_start = block[size:], 16 + size
    return data, end


async def get_proxy(reader_func: AsyncReader) -> ProxyData:
    """Read a PROXY header from a stream. It never raises: ``error`` says what is wrong, an exception included.

    Example::

        data = await get_proxy(reader)
    """
    try:
        start = await reader_func.readexactly(5)
        if start == _V1_START:
            return _read_v1(bytes(start + await reader_func.readuntil()))
        if start != V2_SIGNATURE[:5]:
            return _no_header(start)
        start += await reader_func.readexactly(11)
        found = _read_v2(bytes(start))
        if found is None:
            rest = await reader_func.readexactly(int.from_bytes(start[14:16], "big")) if len(start) == 16 else b""
            found = _read_v2(bytes(start + rest))
        if found is None:
            raise ConnectionError("Connection lost while waiting for tail part")
        return found[0]
    except Exception as exc:
        return ProxyData(version=None).with_error(f"PROXY exception: {exc}", False)
