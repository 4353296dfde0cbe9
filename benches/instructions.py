"""Instructions of the engines for one message, counted by callgrind: what the machine does meanwhile does not matter.

    python benches/instructions.py [--json FILE] [--against FILE] [--tolerance 0.05]

Each figure is the difference of a long and a short run, so start-up is left out. With ``--against`` an earlier
``--json`` file, the exit status is 1 if a figure has grown by more than the tolerance. Compare runs of one build on one
interpreter alone: another compiler or CPython counts differently.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {
    "server, discard, 1 KiB": "_server(1024, N, 'discard')",
    "server, discard, 100 KiB": "_server(102400, N, 'discard')",
    "server, collect, 1 KiB": "_server(1024, N, 'collect')",
    "client, lock-step, 1 KiB": "_client(1024, N, False)",
    "client, pipelined, 1 KiB": "_client(1024, N, True)",
    "client, pipelined, 100 KiB": "_client(102400, N, True)",
}
SHORT, LONG = 50, 250


def instructions(case: str, messages: int) -> int:
    code = f"from ehlo.bench._core_bench import _client, _server; ({case.replace('N', str(messages))})()"
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or match is None:
        raise SystemExit(f"valgrind failed:\n{done.stderr[-2000:]}")
    return int(match[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--against", help="an earlier --json file")
    parser.add_argument("--tolerance", type=float, default=0.05)
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is counted")
        return 0
    instructions(CASES["server, discard, 1 KiB"], 1)  # modules may have to be compiled, once
    before = json.loads(Path(options.against).read_text()) if options.against else {}
    figures, grown = {}, False
    for name, case in CASES.items():
        figures[name] = round((instructions(case, LONG) - instructions(case, SHORT)) / (LONG - SHORT))
        row = f"{name:30} {figures[name]:10,} instructions a message"
        if name in before:
            ratio = figures[name] / before[name]
            grown |= ratio > 1 + options.tolerance
            row += f"   {ratio:.3f}x"
        print(row)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
