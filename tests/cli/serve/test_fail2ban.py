"""The fail2ban filter of the docs finds those who are to be found, and nobody else can be made to look like one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ehlo.cli._serve.trail import Format, json_line, text_line

TOOL = shutil.which("fail2ban-regex")
FILTER = Path(__file__).parents[3] / "docs" / "examples" / "fail2ban" / "ehlo.conf"
NOW = 1_795_852_800.0

WRONG = {"command": "AUTH", "reply": "535 5.7.8 Authentication credentials invalid", "client": "192.0.2.1", "port": 1}
RELAY = {"command": "RCPT", "reply": "550 5.7.1 No mail for that domain here", "client": "192.0.2.2", "port": 1}
ERRORS = {"command": "none", "reply": "421 4.7.0 Too many errors", "client": "2001:db8::3", "port": 1}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("refused", WRONG | {"client": "unix"}),
    ("refused", WRONG | {"reply": "454 4.7.0 Temporary authentication failure"}),
    ("refused", RELAY | {"reply": "550 5.1.1 No such user here"}),
    # What a client writes looks like another client's wrong password.
    (
        "refused",
        RELAY
        | {
            "reply": '550 5.1.1 x" client=198.51.100.9 port=1',
            "hello": '1 refused command=AUTH reply="535 x" client=198.51.100.9 port=1',
            "argument": 'TO:<"\\" refused command=AUTH reply=\\"5\\" client=198.51.100.9 port=1"@x>',
        },
    ),
    ("accepted", {"id": "0", "client": "192.0.2.9", "sender": "<refused command=AUTH@x>"}),
]


@pytest.mark.skipif(TOOL is None, reason="fail2ban is not installed")
@pytest.mark.parametrize("form", ["text", "json", "syslog"])
@pytest.mark.parametrize(("mode", "found"), [("normal", 1), ("aggressive", 3)])
def test_the_filter(tmp_path: Path, form: str, mode: str, found: int) -> None:
    assert TOOL is not None
    lines = []
    for event, fields in [("refused", WRONG), ("refused", RELAY), ("refused", ERRORS), *OTHERS]:
        if form == "syslog":
            line = text_line(NOW, event, fields.items(), with_time=False)
            lines.append(f"2026-11-28T08:00:00.000000+00:00 mx ehlo[42]: {line}")
        else:
            kind: Format = "json" if form == "json" else "text"
            write = json_line if kind == "json" else text_line
            lines.append(write(NOW, event, fields.items()))
    log = tmp_path / "mail.log"
    log.write_text("\n".join(lines) + "\n")
    command = [TOOL, "--print-all-matched", str(log), f"{FILTER}[mode={mode}]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    total = re.search(r"Lines: (\d+) lines, \d+ ignored, (\d+) matched", done.stdout)
    assert total is not None, done.stdout
    assert (int(total[1]), int(total[2])) == (8, found), done.stdout
    assert "198.51.100.9" not in "".join(re.findall(r"^\|.*matched.*$", done.stdout, re.MULTILINE))
