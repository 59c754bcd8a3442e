"""Draw the picture of the README: docs/images/memory.svg.

    python docs/make_images.py

The picture is text, so it is drawn here and committed; a test compares the two. It shows one labelled and one
unlabelled query with their rollouts, the answers that the rollouts agree on, and what the reward model adds.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

IMAGE = Path(__file__).resolve().parent / "images" / "memory.svg"
WIDTH, HEIGHT = 860, 330
FONT = "font-family='Helvetica, Arial, sans-serif'"
QUERY, ROLLOUT, ANSWER, MODEL = "#dbe7fb", "#fdf0d2", "#dff2e1", "#f3def2"
LINE, LEARNED, TEXT = "#5b6472", "#9b3fa0", "#1d232c"


def box(x: float, y: float, width: float, fill: str, title: str, note: str = "") -> str:
    """A rounded box with its centre at (x, y), a title, and a smaller note below it."""
    height, middle = (44, y - 3) if note else (30, y + 5)
    left, top = x - width / 2, y - height / 2
    parts = [
        f"<rect x='{left:g}' y='{top:g}' width='{width:g}' height='{height}' rx='9' fill='{fill}' stroke='{LINE}'/>",
        label(x, middle, title, size=14),
    ]
    return "".join([*parts, label(x, y + 14, note, size=11)] if note else parts)


def label(x: float, y: float, text: str, *, size: int = 11, colour: str = TEXT) -> str:
    """A line of text, centred at x."""
    style = f"{FONT} font-size='{size}' fill='{colour}' text-anchor='middle'"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(text)}</text>"


def arrow(start: tuple[float, float], end: tuple[float, float], *, learned: bool = False) -> str:
    """An arrow; what the reward model adds or reads is dashed."""
    colour, dash, head = (LEARNED, " stroke-dasharray='6 4'", "learned") if learned else (LINE, "", "line")
    return (
        f"<line x1='{start[0]:g}' y1='{start[1]:g}' x2='{end[0]:g}' y2='{end[1]:g}' stroke='{colour}' "
        f"stroke-width='1.5'{dash} marker-end='url(#{head})'/>"
    )


def head(name: str, colour: str) -> str:
    """The head of an arrow."""
    return (
        f"<marker id='{name}' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0L8 4L0 8z' fill='{colour}'/></marker>"
    )


def group(y: float, query: str, rollouts: list[str], answers: list[tuple[str, str]], votes: list[int]) -> list[str]:
    """A query, its rollouts and their answers, from left to right; `votes` has each rollout's answer."""
    heights = [y + 44 * (index - (len(rollouts) - 1) / 2) for index in range(len(rollouts))]
    ends = [y + 66 * (index - (len(answers) - 1) / 2) for index in range(len(answers))]
    drawn = [box(90, y, 140, QUERY, "Query", query)]
    for height, rollout, vote in zip(heights, rollouts, votes, strict=True):
        drawn += [arrow((160, y), (263, height)), arrow((417, height), (523, ends[vote]))]
        drawn.append(box(340, height, 150, ROLLOUT, rollout))
    return drawn + [box(590, end, 130, ANSWER, *answer) for end, answer in zip(ends, answers, strict=True)]


def picture() -> str:
    """The whole picture as SVG."""
    labelled = group(
        80, "ground truth known", ["rollout, reward 1", "rollout, reward 1", "rollout, reward 0"],
        [("Answer 42", "2 votes"), ("Answer 17", "1 vote")], [0, 0, 1],
    )  # fmt: skip
    unlabelled = group(
        245, "no ground truth", ["rollout, reward ?", "rollout, reward ?", "rollout, reward ?"],
        [("Answer 9", "2 votes"), ("Answer 6", "1 vote")], [0, 0, 1],
    )  # fmt: skip
    links = [
        arrow((90, 222), (90, 104)),
        label(116, 167, "similar", colour=LINE),
        arrow((655, 60), (722, 128), learned=True),
        label(752, 88, "learns from labels", colour=LEARNED),
        arrow((722, 190), (657, 236), learned=True),
        label(752, 232, "predicts 0.94, 0.12", colour=LEARNED),
        box(775, 158, 130, MODEL, "Reward model", "votes, text, labels"),
    ]
    heads = head("line", LINE) + head("learned", LEARNED)
    body = "\n".join([f"<defs>{heads}</defs>", *labelled, *unlabelled, *links])
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' "
        "aria-label='Queries lead to rollouts and rollouts to answers; a reward model learns from the labelled ones "
        "and predicts the others'>\n"
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n{body}\n</svg>\n"
    )


def main() -> None:
    """Write the picture."""
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
