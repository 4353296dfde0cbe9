"""Draw the tables of docs/state-machine as SVG, and write them into docs/state-machine.md.

The engine's own tests write the tables: ``EHLO_WRITE_STATES=1 cargo test -p ehlo --lib table``. Then
``python tools/draw_states.py`` renews the drawings and the page. It needs ``dot`` (graphviz). Each drawing has its
source in a comment, and tests/docs/test_state_machine.py compares the source with the table.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
MACHINES = ("server", "client")
Row = tuple[str, str, str, str]  # state, input, replies or commands, next state

# Every state has these; the page says so, and the drawing leaves them out.
EVERYWHERE = {"silence", "QUIT", "program: 421", "421", "no reply", "the end of the connection"}
COLOURS = {
    "Deciding": "#fde9c4",
    "In": "#d8ecd3",
    "Next": "#d8ecd3",
    "Closed": "#e0e0e0",
    "Draining": "#f6d5d5",
    "Failed": "#f6d5d5",
}


def rows(machine: str) -> list[Row]:
    """The rows of a table, in its order."""
    lines = (DOCS / f"state-machine/{machine}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [(a, b, c, d) for a, b, c, d in (line.split("\t") for line in lines)]


def grouped(table: Iterable[Row]) -> list[tuple[str, list[str], str, str]]:
    """Inputs of a state that do the same are one row."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for state, given, reply, after in table:
        groups.setdefault((state, re.sub(r"\b[45]\d\d\b", lambda no: no[0], reply), after), []).append(given)
    return [(state, inputs, reply, after) for (state, reply, after), inputs in groups.items()]


def source(machine: str) -> str:
    """The drawing in the language of graphviz."""
    node = re.compile(r", (before|then) .*")
    edges: dict[tuple[str, str], dict[str, list[str]]] = {}
    states: dict[str, None] = {}
    for state, given, reply, after in rows(machine):
        start, end = node.sub("", state), node.sub("", after)
        states |= {start: None, end: None}
        if given in EVERYWHERE or start == end:
            continue
        # The page tells the way back from these two; as arrows they would hide the others.
        if start == "Draining" or (start == "Deciding Hello" and given != "program: yes"):
            continue
        if end in ("Draining", "Deciding Hello") and state not in (
            "Idle",
            "Idle, no hello",
            "InTransaction, no recipient",
        ):
            continue
        labels = edges.setdefault((start, end), {}).setdefault("" if reply == "-" else f" / {reply}", [])
        labels += [given.removeprefix("program: ")] if given.removeprefix("program: ") not in labels else []
    lines = [f"digraph {machine} {{", '  graph [rankdir=TB, ranksep=0.45, nodesep=0.35, fontname="sans-serif"];']
    lines += ['  node [shape=box, style="rounded,filled", fillcolor="#e3eefc", fontname="sans-serif", fontsize=13];']
    lines += ['  edge [fontname="sans-serif", fontsize=11, color="#555555"];']
    for state in states:
        colour = next((value for word, value in COLOURS.items() if state.startswith(word)), None)
        text = state.replace(", ", "\\n")
        lines.append(f'  "{state}" [label="{text}"{f", fillcolor={chr(34)}{colour}{chr(34)}" if colour else ""}];')
    for (start, end), labels_of in edges.items():
        text = "\\n".join(", ".join(inputs) + reply for reply, inputs in labels_of.items())
        lines.append(f'  "{start}" -> "{end}" [label="{text}"];')
    return "\n".join([*lines, "}", ""])


def drawing(machine: str) -> Path:
    """The file of the drawing."""
    return DOCS / f"state-machine/{machine}.svg"


def drawn(machine: str) -> str:
    """The source that stands in the drawing."""
    text = drawing(machine).read_text(encoding="utf-8")
    return text.split("<!-- source\n", 1)[1].split("-->", 1)[0].replace("- >", "->")


def markdown(machine: str) -> str:
    """The table for the page."""
    lines = [
        "| state | input | reply | next state |" if machine == "server" else "| state | input | sends | next state |"
    ]
    lines.append("|---|---|---|---|")
    before = ""
    for state, inputs, reply, after in grouped(rows(machine)):
        first = "" if state == before else f"**{state}**"
        before, after = state, "the same" if after == state else after
        lines.append(f"| {first} | {', '.join(inputs)} | {'' if reply == '-' else reply} | {after} |")
    return "\n".join(lines)


def page() -> str:
    """The page, with the tables renewed."""
    text = (DOCS / "state-machine.md").read_text(encoding="utf-8")
    for machine in MACHINES:
        start, end = f"<!-- {machine} -->\n", f"\n<!-- end of {machine} -->"
        before, rest = text.split(start, 1)
        text = before + start + "\n" + markdown(machine) + "\n" + end + rest.split(end, 1)[1]
    return text


def main() -> None:
    for machine in MACHINES:
        dot = source(machine)
        svg = subprocess.run(["dot", "-Tsvg"], input=dot, text=True, capture_output=True, check=True).stdout
        svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
        # In a comment of XML there may be no two hyphens.
        svg = svg.rstrip() + "\n<!-- source\n" + dot.replace("->", "- >") + "-->\n"
        drawing(machine).write_text(svg, encoding="utf-8")
    (DOCS / "state-machine.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
