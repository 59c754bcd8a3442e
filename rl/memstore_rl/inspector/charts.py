"""Bars and lines as SVG, made on the server: no script draws them, and a screen reader gets title and description.

Colours are classes of the style sheet, since a page may not have inline styles. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markupsafe import Markup

WIDTH, HEIGHT, MARGIN, LEGEND = 640.0, 220.0, 42.0, 18.0
SERIES = 9
"""Lines of one chart at most, each with a colour and a dash pattern of its own."""
STYLE = Path(__file__).parent / "static" / "style.css"
DOTS = 60
"""Points of a line up to which each has a dot."""


@dataclass(frozen=True)
class Point:
    """A point of a line."""

    x: float
    y: float


def bar(share: float | None, kind: str, title: str) -> Markup:
    """A horizontal bar of a share in 0..1; `kind` is its class. An unknown share is an empty bar."""
    width = 0.0 if share is None else 100 * min(max(share, 0.0), 1.0)
    return Markup(
        f'<svg class="bar {escape(kind)}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><rect class="track" width="100" height="8"/>'
        f'<rect class="fill" width="{width:.1f}" height="8"/></svg>'
    )


@dataclass(frozen=True)
class Band:
    """The interval of a line at an x."""

    x: float
    low: float
    high: float


def line_chart(
    lines: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x_name: str,
    y_name: str,
    y_range: tuple[float, float],
    x_range: tuple[float, float] | None = None,
    band: Sequence[Band] = (),
    guide: Sequence[Point] = (),
) -> Markup:
    """A chart of up to `SERIES` lines over one axis, with a legend.

    Args:
        lines: points by the name of the line, ordered by x.
        title: what the chart shows; its description has the first and last point of each line.
        x_range: ends of the axis; None: the first and last x of the lines.
        band: interval of the first line, ordered by x.
        guide: a thin line to compare with, such as the diagonal.
    """
    shown = dict([(name, line) for name, line in lines.items() if line][:SERIES])
    points = [point for line in shown.values() for point in line]
    if not points:
        return Markup("")
    low, high = x_range or (min(point.x for point in points), max(point.x for point in points))
    bottom, top = y_range
    height = HEIGHT + LEGEND * len(shown)

    def x(value: float) -> float:
        return MARGIN + (WIDTH - MARGIN - 10) * (value - low) / ((high - low) or 1)

    def y(value: float) -> float:
        return (
            HEIGHT - MARGIN - (HEIGHT - MARGIN - 12) * (min(max(value, bottom), top) - bottom) / ((top - bottom) or 1)
        )

    def path(ends: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in ends)

    parts = [_axes(x_name, y_name, (low, high), y_range, x, y)]
    if band:
        around = [(one.x, one.low) for one in band] + [(one.x, one.high) for one in reversed(band)]
        parts.append(f'<polygon class="band s0" points="{path(around)}"/>')
    if guide:
        parts.append(f'<polyline class="guide" points="{path([(point.x, point.y) for point in guide])}"/>')
    told = []
    for number, (name, line) in enumerate(shown.items()):
        parts.append(f'<polyline class="line s{number}" points="{path([(point.x, point.y) for point in line])}"/>')
        parts += [
            f'<circle class="dot s{number}" cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="2.5"/>'
            for point in (line if len(line) <= DOTS else [line[0], line[-1]])
        ]
        at = HEIGHT + LEGEND * number + 6
        parts.append(f'<line class="line s{number}" x1="{MARGIN}" x2="{MARGIN + 30}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{MARGIN + 36}" y="{at + 4}">{escape(name)}</text>')
        told.append(f"{name}: {line[0].y:.2f} at {line[0].x:g}, {line[-1].y:.2f} at {line[-1].x:g}")
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {height:g}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape('; '.join(told))}</desc>{''.join(parts)}</svg>"
    )


def chart_file(charts: Mapping[str, Markup]) -> str:
    """An SVG file of charts one below the other, in the colours of the pages.

    Args:
        charts: by the heading of each.
    """
    parts, top = [], 0.0
    for heading, made in charts.items():
        chart = str(made)
        height = float(chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
        parts.append(f'<g class="chart"><text x="{MARGIN}" y="{top + 16}">{escape(heading)}</text></g>')
        parts.append(chart.replace("<svg ", f'<svg y="{top + 24}" width="{WIDTH:g}" height="{height:g}" ', 1))
        top += height + 40
    style = f"<style>{STYLE.read_text(encoding='utf-8')} svg {{ background: var(--back); }}</style>"
    size = f'width="{WIDTH:g}" height="{top:g}" viewBox="0 0 {WIDTH:g} {top:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(parts)}</svg>\n'


def _axes(
    x_name: str,
    y_name: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> str:
    """The axes with their names and the values at their ends."""
    bottom = HEIGHT - MARGIN
    ticks = "".join(
        f'<text class="tick" x="{x(value):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{value:g}</text>'
        for value, anchor in list(zip(x_range, ("start", "end"), strict=True))[: len(set(x_range))]
    ) + "".join(
        f'<text class="tick" x="{MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in y_range
    )
    middle = (MARGIN + WIDTH) / 2
    return (
        f'<path class="axis" d="M{MARGIN} 12V{bottom}H{WIDTH - 10:g}"/>{ticks}'
        f'<text class="tick" x="{middle}" y="{bottom + 30}" text-anchor="middle">{escape(x_name)}</text>'
        f'<text class="tick" x="{MARGIN + 6}" y="14">{escape(y_name)}</text>'
    )
