"""Draws lines over two logarithmic axes as SVG that is read on a light page as well as on a dark one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from findings import Plot

__all__ = ["drawn"]

WIDTH, HEIGHT = 800, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 240, 48, 60

# Six colours that differ in lightness too, for those who see fewer; lighter ones on a dark page.
LIGHT = ("#0b5cad", "#b3470f", "#157a3c", "#8a2f8f", "#6b5b00", "#444444")
DARK = ("#6db3ff", "#ff9d66", "#6fd694", "#e08be6", "#e0c94a", "#c4c4c4")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4")


def drawn(plot: Plot) -> str:
    """The picture, as the text of a file."""
    xs = _decades(x for line in plot.lines.values() for x, _ in line)
    ys = _decades(y for line in plot.lines.values() for _, y in line)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(plot.title)}</title>',
        f"<style>{_style()}</style>",
        f'<text class="head" x="{LEFT}" y="24">{escape(plot.title)}</text>',
    ]
    parts += _axes(plot, xs, ys)
    for number, (name, line) in enumerate(plot.lines.items()):
        parts += _line(
            number, name, [(_place(x, xs, LEFT, WIDTH - RIGHT), _place(y, ys, HEIGHT - BOTTOM, TOP)) for x, y in line]
        )
    return "\n".join([*parts, "</svg>", ""])


def _style() -> str:
    rules = [
        "text{font:13px sans-serif;fill:#222}.head{font-size:15px;font-weight:600}",
        ".grid{stroke:#d5d5d5;stroke-width:1}.line{fill:none;stroke-width:2}",
        *(f".l{n}{{stroke:{colour}}}.d{n}{{fill:{colour}}}" for n, colour in enumerate(LIGHT)),
        "@media (prefers-color-scheme:dark){text{fill:#e6e6e6}.grid{stroke:#4a4d57}",
        *(f".l{n}{{stroke:{colour}}}.d{n}{{fill:{colour}}}" for n, colour in enumerate(DARK)),
        "}",
    ]
    return "".join(rules)


def _decades(values: Iterable[float]) -> tuple[int, int]:
    """The powers of ten around them."""
    logs = [math.log10(value) for value in values if value > 0]
    low, high = math.floor(min(logs, default=0.0)), math.ceil(max(logs, default=1.0))
    return low, max(high, low + 1)


def _place(value: float, decades: tuple[int, int], begin: float, end: float) -> float:
    low, high = decades
    share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
    return begin + share * (end - begin)


def _axes(plot: Plot, xs: tuple[int, int], ys: tuple[int, int]) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for power in range(xs[0], xs[1] + 1):
        x = _place(10.0**power, xs, LEFT, right)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{_said(power)}</text>')
    for power in range(ys[0], ys[1] + 1):
        y = _place(10.0**power, ys, bottom, TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_said(power)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(plot.x)}</text>')
    parts.append(
        f'<text transform="translate(18 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(plot.y)}</text>'
    )
    return parts


def _said(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _line(number: int, name: str, points: Sequence[tuple[float, float]]) -> list[str]:
    kind = number % len(LIGHT)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{DASHES[kind]}"' if DASHES[kind] else ""
    x, y = WIDTH - RIGHT + 16, TOP + 8 + 22 * number
    return [
        f'<polyline class="line l{kind}"{dash} points="{path}"/>',
        *(f'<circle class="d{kind}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points),
        f'<line class="line l{kind}"{dash} x1="{x}" y1="{y}" x2="{x + 28}" y2="{y}"/>',
        f'<text x="{x + 34}" y="{y + 4}">{escape(name)}</text>',
    ]
