"""A small line plot as SVG: latency over load, one line for each server. Generated as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 360, 60, 50, 30
COLOURS = ("#888888", "#4477aa", "#cc3311", "#ddaa33", "#117733")

Point = tuple[float, float]


def line_plot(lines: Mapping[str, Sequence[Point]], *, title: str, across: str, up: str) -> str:
    """The SVG's text. Both axes begin at 0."""
    right, high = (max(point[axis] for line in lines.values() for point in line) * 1.05 for axis in (0, 1))

    def x(value: float) -> float:
        return round(LEFT + value / right * (WIDTH - LEFT - 160), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / high * (HEIGHT - BOTTOM - TOP), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 18, title, weight="bold"),
        _text(x(right / 2), HEIGHT - 12, across),
        _text(8, TOP - 6, up),
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{x(right)}" fill="none" stroke="black"/>',
    ]
    for value in sorted({point[0] for line in lines.values() for point in line}):
        parts.append(_text(x(value) - 8, HEIGHT - BOTTOM + 16, f"{value:g}"))
    for part in range(5):
        value = high * part / 4
        parts.append(_text(14, y(value) + 4, f"{value:.2g}"))
        parts.append(f'<path d="M{LEFT} {y(value)}H{x(right)}" stroke="#dddddd"/>')
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(across_)},{y(up_)}" for across_, up_ in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(a)}" cy="{y(b)}" r="3" fill="{colour}"/>' for a, b in line]
        parts.append(_text(WIDTH - 150, TOP + 20 + 18 * number, name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, weight: str = "normal", colour: str = "black") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
