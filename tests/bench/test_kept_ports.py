"""Ports that are kept for programs that cannot tell which ones they got."""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from ehlo.bench._compare.ports import kept_ports


def test_a_server_that_asks_for_a_kept_port_gets_it() -> None:
    with kept_ports(3) as ports:
        assert len(set(ports)) == 3
        for port in ports:
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), 20):
                pass
            with socket.create_server(("127.0.0.1", port)):  # once more, as a program that is started again
                pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server listen beside a socket that keeps")
def test_nobody_else_gets_a_kept_port() -> None:
    with kept_ports(1) as [port], socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
