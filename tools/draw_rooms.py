"""Draw docs/rooms.svg: the rooms of the package and which imports which, read from its modules.

python tools/draw_rooms.py
"""

import ast
import html
import re
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "glue_mva"
PICTURE = PACKAGE.parent / "docs" / "rooms.svg"
GROUND = "the ground"
"""Modules that lie in no folder; every room may use them."""

SINGLE = ("record",)
"""Rooms of one module, which knows other rooms and so does not belong to the ground."""

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, TEXT_WIDTH = 112, 36, 24, 44, 12, 580
LETTERS = 72
"""Longest line of text; it fits TEXT_WIDTH in a wide font (DejaVu Sans at 14 px, 8 px a letter)."""


def imports() -> dict[str, set[str]]:
    """Room -> rooms that its modules import, at the top or inside of functions; what is only for types left out."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        if path.parent == PACKAGE and path.stem in ("__init__", "__main__"):
            continue  # the front door: it passes on names of every room
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(room, set()).add(room_of(name.split(".")[1:]))
    return {room: others - {room} for room, others in sorted(found.items())}


def room_of(parts) -> str:
    """The room of a module, given by the parts of its name below `glue_mva`."""
    return parts[0] if parts and ((PACKAGE / parts[0]).is_dir() or parts[0] in SINGLE) else GROUND


def imported(tree: ast.AST):
    """Names of the package's modules that a module imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "glue_mva":
            yield from (f"{node.module}.{alias.name}" if node.module == "glue_mva" else node.module
                        for alias in node.names)  # fmt: skip
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "glue_mva")
        yield from imported(node)


def levels(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Room -> the length of the longest way down from it.

    Raises:
        ValueError: rooms import each other in a circle; names them.
    """
    found: dict[str, int] = {}

    def level(room: str, way: tuple[str, ...]) -> int:
        if room in way:
            raise ValueError(f"a circle: {' -> '.join([*way[way.index(room) :], room])}")
        if room not in found:
            found[room] = max((1 + level(other, (*way, room)) for other in sorted(arrows.get(room, ()))), default=0)
        return found[room]

    for room in arrows:
        level(room, ())
    return found


def essential(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Arrows that do not follow from others: no longer way leads from the one to the other."""

    def reaches(start: str, end: str) -> bool:
        return start == end or any(reaches(other, end) for other in arrows.get(start, ()))

    return [(room, other) for room, others in arrows.items() for other in sorted(others)
            if not any(reaches(between, other) for between in others - {other})]  # fmt: skip


def sentence(room: str) -> str:
    """What lives there: the first sentence of the room's docstring."""
    path = PACKAGE / f"{room}.py" if room in SINGLE else PACKAGE / room / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"[.] |\.\n|\.$", text.replace("`", ""))[0].replace("\n", " ")


def chain(arrows: dict[str, set[str]], level: dict[str, int]) -> list[str]:
    """The longest way down."""
    way = [max(level, key=level.__getitem__)]
    while level[way[-1]]:
        way.append(max(sorted(arrows[way[-1]]), key=level.__getitem__))
    return way


def draw() -> str:
    """The picture as SVG: the longest way down on the left, every other room beside it in a column of its own."""
    arrows = {room: others - {GROUND} for room, others in imports().items() if room != GROUND}
    level = levels(arrows)
    top = max(level.values())
    left = chain(arrows, level)
    row = {room: top - number for room, number in level.items()}
    column = dict.fromkeys(left, 0)
    for room in sorted(row.keys() - column, key=lambda room: (row[room], room)):
        column[room] = max(column.values()) + 1
    place = {room: (MARGIN + column[room] * (WIDTH + GAP_X), MARGIN + row[room] * (HEIGHT + GAP_Y)) for room in row}
    text_x = MARGIN + (max(column.values()) + 1) * (WIDTH + GAP_X)
    width, ground_y = text_x + TEXT_WIDTH, MARGIN + (top + 1) * (HEIGHT + GAP_Y)
    height = ground_y + HEIGHT + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="14">',
        "<!-- Written by python tools/draw_rooms.py -->",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#5c6bc0"/></marker></defs>',
    ]
    for room, other in essential(arrows):
        lines.append(f'<path d="{arrow(place[room], place[other])}" fill="none" stroke="#5c6bc0" stroke-width="1.5" '
                     'marker-end="url(#head)"/>')  # fmt: skip
    for room, (x, y) in place.items():
        lines += box(x, y, WIDTH, room)
    for number in sorted(set(row.values())):
        rooms = sorted((room for room in row if row[room] == number), key=column.__getitem__)
        said = [f"{room}: {sentence(room)}" if column[room] else sentence(room) for room in rooms]
        y = MARGIN + number * (HEIGHT + GAP_Y) + 14
        for i, line in enumerate(line for text in said for line in textwrap.wrap(text, LETTERS)):
            lines.append(f'<text x="{text_x}" y="{y + 17 * i}" fill="#424242">{html.escape(line)}</text>')
    names = ", ".join(
        sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__") and p.stem not in SINGLE)
    )
    return "\n".join([*lines, *box(MARGIN, ground_y, width - 2 * MARGIN, names), "</svg>"]) + "\n"


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From below one box, or from its right where the other stands further right, to the top of the other."""
    (x1, y1), (x2, y2) = start, (end[0] + WIDTH // 2, end[1])
    if end[0] > x1:
        x1, y1 = x1 + WIDTH, y1 + HEIGHT // 2
        return f"M{x1},{y1} C{x2},{y1} {x2},{y1} {x2},{y2}"
    x1, y1 = x1 + WIDTH // 2, y1 + HEIGHT
    return f"M{x1},{y1} C{x1},{y2 - 8} {x2},{y1 + 8} {x2},{y2}"


def box(x: int, y: int, width: int, name: str) -> list[str]:
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="6" fill="#e8eaf6" stroke="#3949ab"/>',
        f'<text x="{x + width // 2}" y="{y + HEIGHT // 2 + 5}" text-anchor="middle" fill="#1a237e" '
        f'font-size="15">{name}</text>',
    ]


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
