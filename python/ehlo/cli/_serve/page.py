"""The page for people: figures become HTML. No script, no picture from elsewhere; what a client wrote is escaped."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from html import escape
from typing import Final

from ehlo._words import counted
from ehlo.cli._queue_text import span
from ehlo.cli._serve.figures import MINUTES, Fact, Kind, RouteFigures, Snapshot

__all__ = ["STYLE_HASH", "page"]

_TITLES: Final[dict[Kind, str]] = {
    "accepted": "Messages accepted",
    "delivered": "Recipients delivered",
    "deferred": "Attempts deferred",
    "failed": "Recipients failed",
    "refused": "Refusals",
}
_WIDTH: Final = 360
_HEIGHT: Final = 72
_ROUTES: Final = 200
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")

_STYLE: Final = """
:root { color-scheme: light dark; --back: #fff; --card: #f4f5f7; --text: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --good: #1a6fb5; --bad: #b3402a; --warn: #fff4d6; --mark: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --card: #1e232b; --text: #e6e9ee; --soft: #a0a9b5;
  --line: #39414d; --good: #62aef0; --bad: #f0846e; --warn: #3a2f12; --mark: #f0c35e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
a { color: var(--good); }
.soft { color: var(--soft); font-size: .875rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1rem 0 0; }
.tiles div, .plot, .why { background: var(--card); border-radius: .5rem; padding: .75rem; }
.tiles dt { color: var(--soft); font-size: .875rem; }
.tiles dd { margin: 0; font-size: 1.375rem; font-variant-numeric: tabular-nums; }
.tiles small { display: block; color: var(--soft); font-size: .8125rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .75rem; }
.plot { margin: 0; }
.plot figcaption { display: flex; justify-content: space-between; gap: 1rem; }
.plot svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
.plot rect { fill: var(--good); }
.bad rect { fill: var(--bad); }
.plot line { stroke: var(--line); stroke-width: 1; }
.axis { display: flex; justify-content: space-between; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .875rem; padding-bottom: .25rem; }
th, td { text-align: left; padding: .375rem .75rem .375rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; }
.small { width: auto; }
.small .number { padding-left: 1rem; }
td.name { overflow-wrap: anywhere; min-width: 9rem; }
.number { text-align: right; white-space: nowrap; }
.note { background: var(--warn); border-left: .25rem solid var(--mark); border-radius: .25rem; padding: .5rem .75rem;
  margin: .5rem 0; overflow-wrap: anywhere; }
form { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end; }
label { display: block; font-size: .875rem; color: var(--soft); }
input, button { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--soft);
  border-radius: .375rem; padding: .375rem .625rem; min-height: 2.5rem; }
input { width: 16rem; max-width: 100%; font-family: ui-monospace, monospace; }
button { background: var(--card); cursor: pointer; }
:focus-visible { outline: 3px solid var(--good); outline-offset: 2px; }
.why { margin-top: .75rem; overflow-wrap: anywhere; }
.why dl { display: grid; grid-template-columns: max-content 1fr; gap: .125rem 1rem; margin: .5rem 0 0; }
.why dt { color: var(--soft); }
.why dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: .75rem; }
"""

STYLE_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
"""The one style that the page's policy lets through (CSP 3, 2.3.1)."""


def page(figures: Snapshot, asked: str | None = None, answer: Sequence[Fact] = ()) -> str:
    """The page.

    Arguments:
        figures: at one moment.
        asked: the queue id that somebody asked about; ``None``: nobody did.
        answer: of :meth:`ehlo.cli._serve.figures.Figures.why`.
    """
    name = escape(figures.hostname)
    parts = [_why(asked, answer)] if asked else []
    parts += [_tiles(figures), _suspended(figures), _plots(figures)]
    if figures.totals is not None:
        parts += [_states(figures), _routes(figures)]
    parts += [_refusals(figures)]
    if figures.totals is not None:
        parts.append(_form(asked or ""))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{name}: mail</title><style>{_STYLE}</style></head><body>"
        f'<header><h1>{name}</h1><p class="soft">{_moment(figures.at)}, up for {span(figures.at - figures.since)}. '
        '<a href="/">Look again</a></p></header>'
        f"<main>{''.join(parts)}</main></body></html>\n"
    )


def _moment(clock: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(clock))


def _octets(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


_BLANK: Final = "\u202f"  # narrow, and it does not break


def _count(number: int) -> str:
    return f"{number:,}".replace(",", _BLANK)


def _counted(number: int, noun: str) -> str:
    return counted(number, noun, ",").replace(",", _BLANK)


# ---- parts ---------------------------------------------------------------------------------------


def _tiles(figures: Snapshot) -> str:
    totals, stats = figures.totals, figures.statistics
    tiles: list[tuple[str, str, str]] = []
    if totals is not None:
        oldest = "none" if totals.oldest is None else span(figures.at - totals.oldest)
        size = _octets(totals.octets) + ("" if totals.free is None else f", {_octets(totals.free)} free")
        queued = totals.ready + totals.owned + totals.held
        tiles += [
            ("In the queue", _count(queued), f"recipients of {_counted(totals.messages, 'message')}"),
            ("Oldest message", oldest, size),
        ]
    tiles += [
        ("Connections now", _count(figures.open), f"{_count(stats.connections)} since the start"),
        ("Accepted, last hour", _count(sum(figures.minutes["accepted"])), f"{_count(stats.messages)} since the start"),
        ("Refused, last hour", _count(sum(figures.minutes["refused"])), "replies 4yz and 5yz"),
    ]
    if figures.lines_dropped:
        tiles.append(("Log lines lost", _count(figures.lines_dropped), "the log is written too slowly"))
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{inner}</dl>'


def _suspended(figures: Snapshot) -> str:
    rows = [row for row in figures.routes if row.suspended_until > figures.at]
    if not rows:
        return ""
    notes = "".join(
        f'<p class="note"><strong>{escape(_name(row))}</strong> for {span(row.suspended_until - figures.at)}: '
        f"{escape(row.reason or 'no reason was given')}</p>"
        for row in rows
    )
    return f"<section><h2>Suspended routes</h2>{notes}</section>"


def _name(row: RouteFigures) -> str:
    return row.name or "not tried yet"


def _plots(figures: Snapshot) -> str:
    shown = [kind for kind in _TITLES if figures.totals is not None or kind in ("accepted", "refused")]
    plots = "".join(_plot(_TITLES[kind], figures.minutes[kind], kind) for kind in shown)
    spans = range(0, MINUTES, 10)
    rows = "".join(
        f'<tr><th scope="row">{MINUTES - first} to {MINUTES - first - 10} min ago</th>'
        + "".join(f'<td class="number">{_count(sum(figures.minutes[kind][first : first + 10]))}</td>' for kind in shown)
        + "</tr>"
        for first in spans
    )
    heads = "".join(f'<th scope="col" class="number">{kind}</th>' for kind in shown)
    return (
        f'<section><h2>The last hour, by minute</h2><div class="plots">{plots}</div>'
        '<details><summary>As numbers</summary><div class="scroll" role="region" aria-label="Numbers" tabindex="0">'
        f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _plot(title: str, minutes: Sequence[int], kind: Kind) -> str:
    most, total = max(minutes), sum(minutes)
    step = _WIDTH / len(minutes)
    bars = "".join(
        f'<rect x="{number * step + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}" '
        f'height="{height:.1f}"><title>{len(minutes) - 1 - number} min ago: {count}</title></rect>'
        for number, count in enumerate(minutes)
        if count and (height := max(2.0, count * (_HEIGHT - 2) / most))
    )
    look = "plot bad" if kind in ("refused", "failed", "deferred") else "plot"
    return (
        f'<figure class="{look}"><figcaption><h3>{title}</h3><span>{_count(total)}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 1}" role="img" '
        f'aria-label="{title}: {total} in the last hour, at most {most} in a minute">'
        f'{bars}<line x1="0" y1="{_HEIGHT + 0.5}" x2="{_WIDTH}" y2="{_HEIGHT + 0.5}"/></svg>'
        '<div class="axis soft" aria-hidden="true"><span>an hour ago</span>'
        f"<span>at most {_count(most)} a minute</span><span>now</span></div></figure>"
    )


def _states(figures: Snapshot) -> str:
    totals = figures.totals
    assert totals is not None
    rows = "".join(
        f'<tr><th scope="row">{state}</th><td class="number">{_count(count)}</td><td>{meaning}</td></tr>'
        for state, count, meaning in (
            ("ready", totals.ready, "waits for its next attempt"),
            ("owned", totals.owned, "is delivered now, or next"),
            ("held", totals.held, "waits for an administrator"),
        )
    )
    return (
        '<section><h2>Recipients by state</h2><table class="small"><thead><tr>'
        '<th scope="col">State</th><th scope="col" class="number">Recipients</th><th scope="col"></th>'
        f"</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _routes(figures: Snapshot) -> str:
    if not figures.routes:
        return "<section><h2>Recipients by route</h2><p>Nothing is queued.</p></section>"
    heads = "".join(
        f'<th scope="col"{look}>{text}</th>'
        for text, look in (
            ("Route", ""),
            ("Recipients", ' class="number"'),
            ("Oldest", ' class="number"'),
            ("Size", ' class="number"'),
            ("Connections", ' class="number"'),
        )
    )
    shown = figures.routes[:_ROUTES]
    rows = "".join(_route(row, figures.at) for row in shown)
    more = len(figures.routes) - len(shown)
    rest = f'<p class="soft">and {_counted(more, "more route")}</p>' if more else ""
    return (
        '<section><h2>Recipients by route</h2><div class="scroll" role="region" aria-label="Routes" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{rest}</section>"
    )


def _route(row: RouteFigures, now: float) -> str:
    cells = (
        _count(row.recipients),
        "" if row.oldest is None else span(now - row.oldest),
        _octets(row.octets) if row.recipients else "",
        f"{row.connections} of {row.limit}" if row.limit else "",
    )
    mark = " (suspended)" if row.suspended_until > now else ""
    return (
        f'<tr><td class="name">{escape(_name(row))}{mark}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + "</tr>"
    )


def _refusals(figures: Snapshot) -> str:
    if not figures.refusals:
        return "<section><h2>Refusals of the last hour</h2><p>Nothing was refused.</p></section>"
    rows = "".join(
        f'<tr><th scope="row">{escape(command)}</th><td class="number">{_count(count)}</td></tr>'
        for command, count in figures.refusals.items()
    )
    return (
        '<section><h2>Refusals of the last hour</h2><table class="small"><thead><tr>'
        '<th scope="col">At</th><th scope="col" class="number">Replies</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _form(asked: str) -> str:
    return (
        '<section><h2>Why does a message wait?</h2><form action="/" method="get">'
        '<div><label for="why">Queue id, as in the log and in Received</label>'
        f'<input id="why" name="why" value="{escape(asked[:40])}" required spellcheck="false" autocomplete="off" '
        'placeholder="0192f3c2d4e5a6b7"></div><button>Show</button></form></section>'
    )


def _why(asked: str, answer: Sequence[Fact]) -> str:
    head = f"<h2>Message {escape(asked[:40])}</h2>"
    if not answer:
        return (
            f'<section>{head}<p class="note">The queue has no such message. It was delivered, it was returned, or it '
            "was never here. The log has a line for each of its events.</p></section>"
        )
    cards = "".join(
        f'<div class="why"><h3>{escape(one.recipient)}</h3><dl>'
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in one.facts)
        + "</dl>"
        + "".join(f"<p>{escape(text)}</p>" for text in one.why)
        + "</div>"
        for one in answer
    )
    return f"<section>{head}{cards}</section>"
