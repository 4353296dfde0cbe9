"""Each file of docs/examples/serve starts as it stands, after copying."""

from __future__ import annotations

import json
import re
import shutil
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

import ehlo
import ehlo.cli
from programs import AS_ROOT, started

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "serve"
FILES = sorted(path.name for path in FOLDER.glob("*.toml"))


def prepare(folder: Path, file: str) -> str:
    """Copy, and do what the comment at the top of the file asks for; gives the text of the file."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    text = (folder / file).read_text()
    if "ehlo user add" in text:
        trustme = pytest.importorskip("trustme")
        (folder / "users").write_text(f"jane:{ehlo.hash_password('x', scram=True)}\n")
        (folder / "users").chmod(0o600)
        certificate = trustme.CA().issue_cert("mx.example.org")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "key.pem").chmod(0o600)
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    if "ehlo dkim keygen" in text:
        pytest.importorskip("cryptography")
        for selector, kind in (("mail", "rsa"), ("ed", "ed25519")):
            command = ["dkim", "keygen", "example.org", "--selector", selector, "--type", kind]
            assert ehlo.cli.main([*command, "--out", str(folder / f"{selector}.private")]) == 0
    if "cat >password" in text:
        (folder / "password").write_text("secret\n")
        (folder / "password").chmod(0o600)
    return text


def test_there_are_examples() -> None:
    assert len(FILES) >= 7


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("file", FILES)
def test_it_starts(file: str, loop: str, tmp_path: Path) -> None:
    text = prepare(tmp_path, file)
    command = [sys.executable, "-m", "ehlo", "serve", *AS_ROOT, file, "--loop", loop]
    checked = subprocess.run([*command, "--check", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    found = json.loads(checked.stdout)["findings"]
    # The names of the examples are not in DNS, and their next hops are not here.
    errors = [one for one in found if one["level"] == "error" and "connect to" not in one["text"]]
    assert not errors
    ports = [int(port) for port in re.findall(r"^port = (\d+)", text, re.MULTILINE)]
    assert all(port > 1023 for port in ports)  # an ordinary user may have them
    (tmp_path / file).write_text(re.sub(r"^port = \d+", "port = 0", text, flags=re.MULTILINE))  # others test, too
    with started(*command, cwd=tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(text.count("[[listener]]"))]
        assert all(line.startswith("ehlo serve: listening on ") for line in lines), process.communicate()
        if file in ("queue.toml", "filter.toml", "milter.toml"):
            port = int(re.search(r":(\d+) \(", lines[0])[1])  # type: ignore[index]
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as client:
                client.sendmail("a@b.example", ["jane@example.org"], b"Subject: x\r\n\r\nhello\r\n")
                with pytest.raises(smtplib.SMTPRecipientsRefused):
                    client.sendmail("a@b.example", ["jane@elsewhere.example"], b"Subject: x\r\n\r\nhello\r\n")
                if file == "filter.toml":
                    with pytest.raises(smtplib.SMTPDataError, match="no advertisement"):
                        client.sendmail("a@b.example", ["jane@example.org"], b"Subject: x\r\n\r\nCasino!\r\n")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "ehlo serve: received " in out
