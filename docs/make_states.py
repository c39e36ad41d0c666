"""Draws states.svg and writes states.md from the machine's table, so that neither can drift.

python docs/make_states.py
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from chained_models._states import OUTCOMES, TRANSITIONS, Input, SaveState

HERE = Path(__file__).parent

LIVE = [state for state in SaveState if state not in OUTCOMES]
ENDED = [state for state in SaveState if state in OUTCOMES]

BOX, GAP, TOP, BELOW = (120, 40), 64, 150, 330

MEANING = {
    SaveState.PREPARING: "It has its place in line; its snapshot is being taken. It holds back those behind it.",
    SaveState.QUEUED: "Accepted, never attempted.",
    SaveState.IN_FLIGHT: "An attempt is under way.",
    SaveState.BACKING_OFF: "An attempt surely failed. The next one waits for its time, or for the lane to be resumed.",
    SaveState.IN_DOUBT: "An attempt may have been applied: it is over its time, or ended without a clear answer.",
    SaveState.SAVED: "The backend has it.",
    SaveState.FAILED: "It was surely not applied, and will not be tried again.",
    SaveState.ABANDONED: "Nobody knows whether it was applied, and it is no longer waited for.",
    SaveState.SUPERSEDED: "Another save took its place. Its handle ends as that one does.",
    SaveState.CANCELLED: "Taken out of the chain before its first attempt.",
}
CAUSE = {
    Input.FILL: "the snapshot is there",
    Input.START: "its turn has come, and the lane has room; or the wait is over",
    Input.LATE: "the attempt is over its time, and still runs",
    Input.BACK_OFF: "the attempt surely failed, and there is another one left",
    Input.DOUBT: "the attempt ended without a clear answer, and there is another one left",
    Input.SUCCEED: "the backend has it, or there was nothing to send",
    Input.FAIL: "it was surely not applied, and is not tried again",
    Input.ABANDON: "it may have been applied, and is not tried again",
    Input.SUPERSEDE: "a newer save, or after a conflict a new one on top of what is stored, took its place",
    Input.CANCEL: "`cancel()`, `clear()`, or a delete of something never stored",
}


def edges() -> dict[tuple[SaveState, SaveState | None], list[str]]:
    """Labels of the arrows; None stands for all endings."""
    found: dict[tuple[SaveState, SaveState | None], list[str]] = defaultdict(list)
    for state, row in TRANSITIONS.items():
        for received, target in row.items():
            found[state, None if target in OUTCOMES else target].append(received.value)
    return found


def svg() -> str:
    """The diagram: the live states in a row, arcs above, and one box for the endings below."""
    width, height = BOX
    left = {state: 20 + place * (width + GAP) for place, state in enumerate(LIVE)}
    total = max(left.values()) + width + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} 400" font-family="sans-serif" font-size="12">',
        "<title>The life of a save</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{total}" height="400" rx="8" fill="#fff"/>',
    ]

    def text(x: float, y: float, words: str, *, bold: bool = False) -> None:
        weight = ' font-weight="bold"' if bold else ""
        parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="#222"{weight}>{words}</text>')

    def arrow(path: str) -> None:
        parts.append(f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"/>')

    for (state, target), labels in edges().items():
        x, words = left[state], ", ".join(labels)
        middle = x + width / 2
        if target is None:
            arrow(f"M{middle:g} {TOP + height} V{BELOW}")
            for line, word in enumerate(labels):
                parts.append(f'<text x="{middle + 7:g}" y="{TOP + 80 + 16 * line}" fill="#222">{word}</text>')
        elif target is state:
            edge = x + width
            arrow(f"M{edge} {TOP + 10} c45 -25 45 45 0 20")
            text(edge + 26, TOP - 6, words)
        elif left[target] == x + width + GAP:
            arrow(f"M{x + width} {TOP + 12} H{left[target]}")
            text(x + width + GAP / 2, TOP + 6, words)
        elif left[target] == x - width - GAP:
            arrow(f"M{x} {TOP + 30} H{left[target] + width}")
            text(x - GAP / 2, TOP + 45, words)
        else:
            there = left[target] + width / 2
            rise, shift = 70 if there > middle else 130, 15
            arrow(
                f"M{middle + shift:g} {TOP} C{middle + shift:g} {TOP - rise} {there - shift:g} {TOP - rise} {there - shift:g} {TOP}"
            )
            text((middle + there) / 2, TOP - rise * 0.75 - 5, words)
    for state in LIVE:
        parts.append(
            f'<rect x="{left[state]}" y="{TOP}" width="{width}" height="{height}" rx="6" fill="#eef4fb" stroke="#36c"/>'
        )
        text(left[state] + width / 2, TOP + 25, state.name, bold=True)
    parts.append(f'<rect x="20" y="{BELOW}" width="{total - 80}" height="50" rx="6" fill="#f1f8ee" stroke="#393"/>')
    for place, state in enumerate(ENDED):
        text(20 + (total - 80) * (place + 0.5) / len(ENDED), BELOW + 30, state.name, bold=True)
    parts.append("</svg>\n")
    return "\n".join(parts)


def page() -> str:
    """The page."""
    lines = [
        "# States",
        "",
        "<!-- Written by docs/make_states.py from chained_models._states.TRANSITIONS; change it there. -->",
        "",
        "Every save is in exactly one of these states. What is not in the table cannot happen: the machine refuses it, and",
        "nothing changes.",
        "",
        "![The life of a save](states.svg)",
        "",
        "| state | meaning |",
        "|---|---|",
        *(f"| `{state.name}` | {MEANING[state]} |" for state in SaveState),
        "",
        "| from | what happens | to | when |",
        "|---|---|---|---|",
        *(
            f"| `{state.name}` | {received.value} | `{target.name}` | {CAUSE[received]} |"
            for state, row in TRANSITIONS.items()
            for received, target in row.items()
        ),
        "",
        f"{', '.join(f'`{state.name}`' for state in ENDED[:-1])} and `{ENDED[-1].name}` are final: a save is *settled* once.",
        "",
    ]
    return "\n".join(lines)


def files() -> dict[Path, str]:
    """What is to be written."""
    return {HERE / "states.svg": svg(), HERE / "states.md": page()}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
