"""A certificate authority of the tests, with a server and a client that trust it."""

from __future__ import annotations

import ssl
from typing import Any

import pytest


class Authority:
    def __init__(self) -> None:
        self.ca = pytest.importorskip("trustme").CA()
        self.certificate = self.ca.issue_cert("localhost", "mx.example", "127.0.0.1")
        self.wrong = self.ca.issue_cert("other.example")
        self.jane = self.ca.issue_cert("jane@example.org", common_name="jane")

    def server(self, certificate: Any = None) -> ssl.SSLContext:
        """By default with a certificate for localhost, mx.example and 127.0.0.1."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (certificate or self.certificate).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context
