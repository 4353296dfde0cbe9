"""The unit files in docs/examples/systemd: checked by systemd itself, and started where it runs."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from programs import free_port, program, run

UNITS = Path(__file__).resolve().parents[3] / "docs" / "examples" / "systemd"


def settings_of(unit: str) -> list[str]:
    """The lines of [Service]."""
    section = re.split(r"^\[(.*)\]$", unit, flags=re.MULTILINE)
    text = section[section.index("Service") + 1]
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    for file in UNITS.iterdir():  # the command of the example is not installed here
        text = file.read_text(encoding="utf-8")
        (tmp_path / file.name).write_text(text.replace("/opt/ehlo/bin/ehlo", sys.executable), encoding="utf-8")
    files = sorted(str(file) for file in tmp_path.iterdir())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    service = str(tmp_path / "ehlo.service")
    # 10 is without any protection. Above the threshold the status is 1.
    run(analyze, "security", "--offline=true", "--threshold=20", service)


def test_the_sockets_have_the_names_of_listeners() -> None:
    for file in UNITS.glob("*.socket"):
        name = file.stem.removeprefix("ehlo-")
        assert f"FileDescriptorName={name}\n" in file.read_text(encoding="utf-8")
        assert f"ehlo-{name}.socket" in (UNITS / "ehlo.service").read_text(encoding="utf-8")


def test_it_starts_and_stops_under_systemd() -> None:
    state = subprocess.run([program("systemctl"), "is-system-running"], capture_output=True, text=True, check=False)
    if state.stdout.strip() not in ("running", "degraded") or os.geteuid() != 0:
        pytest.skip("systemd does not run here, or this is not root")
    # The user and the paths of the example are not there. Its protection is.
    without = ("ExecStart", "ExecReload", "User", "Group", "LoadCredential", "WorkingDirectory", "ProtectHome")
    lines = [line for line in settings_of((UNITS / "ehlo.service").read_text("utf-8")) if not line.startswith(without)]
    port, name = free_port(), f"ehlo-test-{os.getpid()}"
    serve = [sys.executable, "-m", "ehlo", "serve", "--as-root", "--discard", "--smtp", str(port)]
    run(program("systemd-run"), f"--unit={name}", "--collect", *(f"--property={line}" for line in lines), *serve)
    try:
        with smtplib.SMTP("127.0.0.1", port, "c.example", timeout=20) as client:
            client.sendmail("a@b.example", ["c@d.example"], "Subject: x\r\n\r\nx\r\n")
    finally:
        run(program("systemctl"), "stop", name)
