"""Plots as SVG text, drawn here: a page with them needs no network and no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

__all__ = ["bars", "lines_by_percentile", "lines_over_time", "time_label"]

_WIDTH: Final = 760
_HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 16, 14, 46
_COLOURS: Final = 12  # classes c0 to c11 of the page's style: six colours, then the same with dashes

Series = Sequence[tuple[str, Sequence[tuple[float, float]]]]


def _frame(title: str, body: list[str], height: int = _HEIGHT) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _legend(names: Sequence[str]) -> str:
    """HTML, not SVG: it wraps by itself."""
    items = (
        f'<li><span class="key c{number % _COLOURS}"></span>{escape(name)}</li>' for number, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _short(value: float) -> str:
    """A number for an axis."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def time_label(microseconds: float) -> str:
    """A time for an axis.

    Example::

        time_label(1500)  # "1.5 ms"
    """
    if microseconds < 1000:
        return f"{microseconds:.3g} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


def lines_by_percentile(title: str, series: Series) -> str:
    """Latency by percentile: each series is (percentile from 0 to less than 100, microseconds); both axes are
    logarithmic, the percentiles' by what is left to 100. A line ends where its samples end: ten of them say nothing of
    the 99th percentile.

    Example::

        lines_by_percentile("latency", [("message", [(0, 90), (50, 100), (99, 300)])])
    """
    series = [(name, points) for name, points in series if points]
    values = [value for _, points in series for _, value in points if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    inner = [percentile for _, points in series for percentile, _ in points] or [90.0]
    span = max(1.0, math.log10(100 / (100 - max(inner)))) * 1.06

    def x(percentile: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log10(100 / (100 - percentile)) / span

    def y(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * place

    body = []
    for power in range(low, high + 1):
        body += [
            _line(_LEFT, y(10**power), _WIDTH - _RIGHT, y(10**power)),
            _text(_LEFT - 6, y(10**power) + 4, time_label(10**power), "end"),
        ]
    for mark in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999):
        if math.log10(100 / (100 - mark)) <= span:
            body += [
                _line(x(mark), _TOP, x(mark), _HEIGHT - _BOTTOM),
                _text(x(mark), _HEIGHT - _BOTTOM + 18, f"{mark:g} %"),
            ]
    for number, (name, points) in enumerate(series):
        path = " ".join(f"{x(percentile):.1f},{y(value):.1f}" for percentile, value in points)
        tip = f"<title>{escape(name)}</title>"
        body.append(f'<polyline class="line c{number % _COLOURS}" points="{path}">{tip}</polyline>')
    body.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "percentile"))
    return _frame(title, body) + _legend([name for name, _ in series])


def lines_over_time(
    title: str,
    series: Series,
    unit: str,
    across: Callable[[float], str] = lambda value: f"{value:g} s",
    upwards: Callable[[float], str] = lambda value: _short(value),
    mark: tuple[str, float] | None = None,
) -> str:
    """Something over the seconds of a run, or over another quantity; each series is (second, value).

    Arguments:
        title: of the plot. series: the lines. unit: what stands below the plot.
        across, upwards: how the values of the two axes read.
        mark: a level to draw as a line of its own, with its name.

    Example::

        lines_over_time("rate", [("accepted", [(0, 900), (1, 1000)])], "messages/s")
    """
    series = [(name, points) for name, points in series if points]
    values = [value for _, points in series for _, value in points] or [1.0]
    if mark is not None:
        values = [*values, mark[1]]
    last = max([second for _, points in series for second, _ in points] or [1.0])
    top = _round_up(max(max(values), 1e-9))

    def x(second: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * second / max(last, 1)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    body = []
    for step in range(5):
        value = top * step / 4
        body += [
            _line(_LEFT, y(value), _WIDTH - _RIGHT, y(value)),
            _text(_LEFT - 6, y(value) + 4, upwards(value), "end"),
        ]
    stride = _round_up(max(last, 1) / 8)
    for step in range(int(max(last, 1) / stride) + 1):
        body.append(_text(x(step * stride), _HEIGHT - _BOTTOM + 18, across(step * stride)))
    if mark is not None:
        body += [
            _line(_LEFT, y(mark[1]), _WIDTH - _RIGHT, y(mark[1]), "one"),
            _text(_WIDTH - _RIGHT, y(mark[1]) - 5, mark[0], "end"),
        ]
    for number, (name, points) in enumerate(series):
        path = " ".join(f"{x(second):.1f},{y(value):.1f}" for second, value in points)
        tip = f"<title>{escape(name)}</title>"
        if len(points) == 1:
            second, value = points[0]
            place = f'cx="{x(second):.1f}" cy="{y(value):.1f}" r="4"'
            body.append(f'<circle class="dot c{number % _COLOURS}" {place}>{tip}</circle>')
        else:
            body.append(f'<polyline class="line c{number % _COLOURS}" points="{path}">{tip}</polyline>')
    body.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, unit))
    return _frame(title, body) + _legend([name for name, _ in series])


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999)


def bars(title: str, rows: Sequence[tuple[str, float, str]], one: str) -> str:
    """Horizontal bars on a logarithmic axis around 1, which ``one`` names: label, ratio, and what to write behind it.

    Example::

        bars("1 KiB", [("ehlo", 0.9, "27 µs"), ("smtp-sink", 1.0, "30 µs")], "smtp-sink")
    """
    left, right, step = 190, 150, 26
    height = _TOP + step * len(rows) + 34
    logs = [math.log10(ratio) for _, ratio, _ in rows if ratio > 0] or [0.0]
    low, high = min(0.0, math.floor(min(logs))), max(0.0, math.ceil(max(logs)))
    if high - low < 1:
        low, high = low - 1, high + 1

    def x(log: float) -> float:
        return left + (_WIDTH - left - right) * (log - low) / (high - low)

    body = []
    for power in range(int(low), int(high) + 1):
        kind = "one" if power == 0 else "grid"
        body += [_line(x(power), _TOP, x(power), height - 30, kind), _text(x(power), height - 14, f"{10.0**power:g}x")]
    for number, (label, ratio, behind) in enumerate(rows):
        middle = _TOP + step * number + step / 2
        body.append(_text(left - 8, middle + 4, label, "end"))
        if ratio > 0:
            start, end = sorted((x(0), x(math.log10(ratio))))
            colour = "ours" if label.startswith("ehlo") else "theirs"
            tip = f"<title>{escape(label)}: {ratio:.3g}x {escape(one)}</title>"
            place = f'x="{start:.1f}" y="{middle - 8:.1f}" width="{max(end - start, 1.5):.1f}" height="16"'
            body.append(f'<rect class="bar {colour}" {place}>{tip}</rect>')
            body.append(_text(max(end, x(0)) + 6, middle + 4, behind, "start"))
    return _frame(title, body, height)
