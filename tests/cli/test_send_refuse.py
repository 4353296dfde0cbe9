"""`ehlo send --refuse-invalid` (FAULTS C15)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ehlo.testing import SMTPServer


@pytest.mark.parametrize("count", [1, 3])
def test_faults_c15_the_others_get_the_message(count: int) -> None:
    with SMTPServer() as server:
        command = [sys.executable, "-m", "ehlo", "send", "--server", f"{server.host}:{server.port}"]
        command += ["--from", "a@b.example", "--to", "c@d.example", "--to", "no address", "--count", str(count)]
        given = {"input": b"Subject: hi\r\n\r\nhi\r\n", "capture_output": True, "timeout": 60, "check": False}
        refused = subprocess.run(command, **given)  # type: ignore[call-overload]
        assert (refused.returncode, server.messages) == (2, [])
        done = subprocess.run([*command, "--refuse-invalid"], **given)  # type: ignore[call-overload]
        assert b"<no address> refused: 553 5.1.3" in done.stdout
        assert done.returncode == 1
        assert [message.recipients for message in server.messages] == [["c@d.example"]] * count
