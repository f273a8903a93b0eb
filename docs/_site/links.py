"""Whether each link of a built site to a file or a place within it leads there: python links.py FOLDER."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and where it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.places.add(value)


def main(folder: Path) -> int:
    """How many links lead nowhere."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists() or (place and target in pages and place not in pages[target].places):
                wrong.append(f"{path.relative_to(folder.resolve())}: {link}")
    print(
        "\n".join(wrong) or f"{sum(len(page.links) for page in pages.values())} links on {len(pages)} pages"
    )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
