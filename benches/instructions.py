"""Instructions of the engines for one message, and of the adapters for one connection and for one message over a kept
connection. They are counted by callgrind: what the machine does meanwhile does not matter.

    python benches/instructions.py             # count
    python benches/instructions.py --check     # and compare with instructions.json beside this file
    python benches/instructions.py --record    # renew that file: its diff shows what a change costs

Each figure is the difference of a long and a short run, so start-up is left out. With ``--check`` the exit status is 1
if a figure has grown by more than ``--tolerance``. Another compiler, interpreter or processor counts differently: where
one of them is not the file's, that is said and nothing fails. It takes a minute, and a release build.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ehlo import build_info
from ehlo.bench._compare.children import bound

RECORDED = Path(__file__).with_suffix(".json")
CASES = {
    "server, discard, 1 KiB": "server_session(1024, N, 'discard')",
    "server, discard, 100 KiB": "server_session(102400, N, 'discard')",
    "server, collect, 1 KiB": "server_session(1024, N, 'collect')",
    "client, lock-step, 1 KiB": "client_session(1024, N, False)",
    "client, pipelined, 1 KiB": "client_session(1024, N, True)",
    "client, pipelined, 100 KiB": "client_session(102400, N, True)",
    "server, a connection, asyncio": "server_connections('asyncio', N)",
    "server, a connection, uvloop": "server_connections('uvloop', N)",
    "server, a connection, trio": "server_connections('trio', N)",
    "server, a message, asyncio": "server_messages('asyncio', N)",
    "server, a message, uvloop": "server_messages('uvloop', N)",
    "server, a message, trio": "server_messages('trio', N)",
    "client, a connection, asyncio": "client_connections('asyncio', N)",
    "client, a connection, uvloop": "client_connections('uvloop', N)",
    "client, a connection, trio": "client_connections('trio', N)",
    "client, a connection, sync": "client_connections('sync', N)",
    "client, send, asyncio": "client_sends('asyncio', N)",
    "client, send, uvloop": "client_sends('uvloop', N)",
    "client, send, trio": "client_sends('trio', N)",
    "client, send, sync": "client_sends('sync', N)",
    "client, send_many, asyncio": "client_sends('asyncio', N, many=True)",
    "client, send_many, uvloop": "client_sends('uvloop', N, many=True)",
    "client, send_many, trio": "client_sends('trio', N, many=True)",
    "client, send_many, sync": "client_sends('sync', N, many=True)",
}
SHORT, LONG = 50, 250
FOLDER = Path(__file__).parent.parent
# All cases run in one process, since its start is most of the time. Valgrind writes down what it has counted whenever
# this function of the C library is called, which nobody else calls.
MARK = "getpgid"
PROGRAM = f"""
import gc, os
from benches.connections import client_connections, client_sends, server_connections, server_messages
from ehlo.bench._core import client_session, server_session
for case in [{", ".join(f"lambda N: {case}" for case in CASES.values())}]:
    case(2)()  # what is made once
    short, long = case({SHORT}), case({LONG})
    gc.collect()
    gc.disable()  # when it would look for cycles depends on the cases before
    os.{MARK}(0)
    short()
    os.{MARK}(0)
    long()
    os.{MARK}(0)
    gc.enable()
"""
VALGRIND = ("valgrind", "--tool=callgrind", f"--dump-before={MARK}")
SIMD = {"avx2", "avx512vl", "bmi2", "erms", "fsrm"}  # what the C library and memchr choose their code by


def count() -> dict[str, int]:
    """Instructions a message, by case."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        done = subprocess.run(
            [*VALGRIND, f"--callgrind-out-file={out}", sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(FOLDER)},
            preexec_fn=bound(),
        )
        if done.returncode:
            raise SystemExit(f"valgrind failed:\n{done.stderr[-2000:]}")
        parts = [Path(f"{out}.{number}").read_text() for number in range(1, 3 * len(CASES) + 1)]
    totals = [int(re.findall(r"^totals: (\d+)$", part, re.MULTILINE)[0]) for part in parts]
    # Of each case three parts: what came before it, its short run, its long run.
    runs = zip(CASES, totals[1::3], totals[2::3], strict=True)
    return {name: round((long - short) / (LONG - SHORT)) for name, short, long in runs}


def made_with() -> dict[str, str]:
    """What the figures depend on, beside the code."""
    rustc = shutil.which("rustc")
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) & SIMD if cpuinfo.exists() else set()
    build = build_info()
    return {
        "rustc": subprocess.run([rustc, "-V"], capture_output=True, text=True).stdout.strip() if rustc else "unknown",
        "build": f"{build['profile']}, opt-level {build['opt_level']}, {build['target']}",
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        "loops": ", ".join(f"{name} {version(name)}" for name in ("uvloop", "trio")),
        "C library": " ".join(platform.libc_ver()),
        "processor": " ".join(sorted(flags)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--tolerance", type=float, default=0.05)
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is counted")
        return 0
    here = made_with()
    if (options.check or options.record) and build_info()["profile"] != "release":
        print("ehlo was built without optimisation: nothing is counted")
        return 0
    recorded: dict[str, Any] = {"made_with": here, "figures": {}}
    if options.check:
        recorded = json.loads(RECORDED.read_text())
    other = {what: told for what, told in recorded["made_with"].items() if here[what] != told}
    if other:
        for what, told in other.items():
            print(f"{what}: {here[what]}, and not {told}")
        print(f"these figures cannot be compared with {RECORDED.name}; that is no failure")
    figures = count()
    grown = []
    for name, figure in figures.items():
        before = recorded["figures"].get(name)
        row = f"{name:30} {figure:10,} instructions a message"
        if before is not None:
            row += f"   {figure / before:.3f}x"
            if figure > before * (1 + options.tolerance):
                grown.append(name)
        print(row)
    if options.record:
        RECORDED.write_text(json.dumps({"made_with": here, "figures": figures}, indent=1) + "\n")
    if grown and not other:
        print(f"grown by more than {options.tolerance:.0%}: {'; '.join(grown)}")
        print("if that is meant: python benches/instructions.py --record")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
