"""Check that every internal link and anchor of a built site resolves: ``python .ci/check_links.py _build/html``."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"href", "src", "action", "poster", "data"}


class Page(HTMLParser):
    """The anchors that a page offers and the addresses it asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.links |= {values[name] for name in LINKS & values.keys()}
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh" and "url=" in values.get("content", ""):
            self.links.add(values["content"].split("url=", 1)[1])


def broken_links(site: Path) -> list[str]:
    """One line ``page: address (what is wrong)`` for every internal address that leads nowhere."""
    site = site.resolve()
    files = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]  # these are templates
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    return [
        f"{path.relative_to(site)}: {link} ({problem})"
        for path, page in pages.items()
        for link in sorted(page.links)
        if (problem := problem_of(link, path, site, pages))
    ]


def problem_of(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    address = urlsplit(link.strip())
    if address.scheme or address.netloc:
        return None
    name = unquote(address.path)
    base = site if name.startswith("/") else path.parent
    target = (base / name.lstrip("/")).resolve() if name else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    anchor = unquote(address.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such anchor"
    return None


def main(argv: list[str]) -> int:
    site = Path(argv[0] if argv else "_build/html")
    if not any(site.rglob("*.html")):
        print(f"no HTML pages in {site}", file=sys.stderr)
        return 1
    broken = broken_links(site)
    for line in broken:
        print(line, file=sys.stderr)
    print(f"{len(broken)} broken internal links in {site}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
