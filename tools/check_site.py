"""Check the links and images of the built site: ``python tools/check_site.py site``, after ``mkdocs build``.

mkdocs checks links between pages of the docs folder. This also checks what the hooks and the theme write: images are
files of the site, anchors exist, and links to the repository name files that exist. Links to other hosts are not read.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
REPOSITORY_URL = "https://github.com/constructive-io/jobfn"
SITE_URL = "https://constructive-io.github.io/jobfn/"


class _Page(HTMLParser):
    """The links, loaded files and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if values.get("data-md-component") == "source":
            self.loaded.append("https://api.github.com")  # by the theme's script
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") in {"stylesheet", "icon"}:
            self.loaded.append(values.get("href", ""))
        elif tag in {"img", "script", "source", "iframe", "video"} and "src" in values:
            self.loaded.append(values["src"])


def broken_links(site: Path, repository: Path) -> Iterator[str]:
    """Yield a line for each link, image, script and style of the site that does not work."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        faults = [_fault_of_loaded(address, path, site) for address in page.loaded]
        faults += [_fault_of_link(address, path, site, pages, repository) for address in page.links]
        yield from (f"{path.relative_to(site)}: {fault}" for fault in faults if fault)


def _fault_of_loaded(address: str, page: Path, site: Path) -> str:
    if urlsplit(address).scheme == "data":
        return ""
    if not _is_of_site(address):
        return f"loads {address} from another host: use a file of the site"
    return "" if _file_of(address, page, site).is_file() else f"{address} is not a file of the site"


def _fault_of_link(address: str, page: Path, site: Path, pages: dict[Path, _Page], repository: Path) -> str:
    if address.startswith(REPOSITORY_URL):
        return "" if _is_in_repository(address, repository) else f"{address} is not a file of the repository"
    if not _is_of_site(address):
        return ""
    target = _file_of(address, page, site)
    anchor = unquote(urlsplit(address).fragment)
    if not target.is_file():
        return f"{address} is not a page of the site"
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"{address} names an anchor that the page does not have"
    return ""


def _is_of_site(address: str) -> bool:
    return address.startswith(SITE_URL) or not (urlsplit(address).scheme or urlsplit(address).netloc)


def _file_of(address: str, page: Path, site: Path) -> Path:
    """Return the file that an address of the site names."""
    if address.startswith(SITE_URL):
        address = "/" + address.removeprefix(SITE_URL)
    path = unquote(urlsplit(address).path)
    if not path:
        return page
    # The site is served below /jobfn/; the theme's page 404.html names that path.
    folder = site if path.startswith("/") else page.parent
    found = (folder / path.removeprefix(urlsplit(SITE_URL).path).lstrip("/")).resolve()
    return found / "index.html" if found.is_dir() else found


def _is_in_repository(address: str, repository: Path) -> bool:
    inside = address.removeprefix(REPOSITORY_URL).strip("/")
    if not inside:
        return address.rstrip("/") == REPOSITORY_URL
    kind, _, rest = inside.partition("/main/")
    path = repository / unquote(urlsplit(rest).path)
    if not address.startswith(f"{REPOSITORY_URL}/"):
        return False
    if kind in {"issues", "releases", "security", "discussions", "actions"}:
        return True
    return {"blob": path.is_file(), "edit": path.is_file(), "tree": path.is_dir()}.get(kind, False)


def main() -> int:
    """Print the broken links of the site in the first argument; return the exit code."""
    lines = list(broken_links(Path(sys.argv[1]).resolve(), ROOT))
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
