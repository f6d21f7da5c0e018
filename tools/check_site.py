"""Check the built site: every link inside it leads somewhere, and no page needs the network.

python tools/check_site.py site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Tags that make a browser fetch something -> the attribute that says what."""

NOT_FETCHED = {"canonical", "next", "prev", "edit", "alternate"}
"""Relations of `link` that a browser does not fetch."""


class Page(HTMLParser):
    """What one page offers and asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        fetched = values.get(LOADS.get(tag, ""))
        if fetched and not NOT_FETCHED & set(values.get("rel", "").split()):
            self.loads.append(fetched)


def problems(site: Path) -> list[str]:
    """One line for each link that leads nowhere, and for each thing that is fetched from elsewhere."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no page there"]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: fetches {url}" for url in page.loads if urlsplit(url).netloc]
        for url in {*page.links, *page.loads}:
            address, anchor = urldefrag(url)
            if urlsplit(url).scheme or urlsplit(url).netloc or name.name == "404.html":
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{name}: no file {url}")
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{name}: no place {url}")
    return sorted(found)


if __name__ == "__main__":
    lines = problems(Path(sys.argv[1]).resolve())
    print("\n".join(lines) or "every link leads somewhere, and nothing is fetched from elsewhere")
    sys.exit(bool(lines))
