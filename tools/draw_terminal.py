"""Run a command in a terminal and draw its screen as SVG: the pictures of README. Needs `pip install pyte`.

    python tools/draw_terminal.py docs/pictures/demo.svg -- glue-mva run --demo   # `make pictures` draws both
    python tools/draw_terminal.py docs/pictures/sweep.svg --when "lamadam +[123]/4" -- glue-mva sweep smoke

With `--when` the picture is taken as soon as the pattern stands on the screen, and the command is interrupted.
"""

import argparse
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 100, 60


def screen_of(command: list[str], when: str | None) -> list[Text]:
    """The lines on the screen after the command, or at the moment when the pattern first stands there."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        os.execvp(command[0], command)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    while select.select([terminal], [], [])[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
        if not data:
            break
        stream.feed(data)
        if when and any(re.search(when, line) for line in screen.display):
            lines = styled(screen)
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)
            return lines
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)}: exit code {code}\n" + "\n".join(screen.display))
    if when:
        sys.exit(f"{when!r} was never on the screen")
    return styled(screen)


def styled(screen: pyte.Screen) -> list[Text]:
    """The lines with their colours, blank ones at the end left out."""
    lines = []
    for y in range(screen.lines):
        line = Text()
        for x in range(screen.columns):
            char = screen.buffer[y][x]
            line.append(char.data, Style(color=colour(char.fg), bgcolor=colour(char.bg), bold=char.bold,
                                         italic=char.italics, reverse=char.reverse))  # fmt: skip
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def colour(name: str) -> str | None:
    """A colour of pyte's in rich's words."""
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    bright = name.removeprefix("bright")
    word = {"brown": "yellow"}.get(bright, bright)
    return word if bright == name else f"bright_{word}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--when", help="pattern on a line of the screen")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "green"), " ".join(options.command)))
        for line in screen_of(options.command, options.when):
            console.print(line, no_wrap=True, overflow="crop")
    no_fonts_from_elsewhere = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(
        title=" ".join(options.command), code_format=no_fonts_from_elsewhere, unique_id=options.picture.stem
    )
    options.picture.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
