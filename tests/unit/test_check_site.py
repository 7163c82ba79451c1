from pathlib import Path

import pytest

from tools.check_site import broken_links

REPOSITORY = "https://github.com/constructive-io/jobfn"


def check(folder: Path, html: str) -> list[str]:
    """Check a site of the page ``a/`` with this HTML, the page ``b/`` with an anchor, and a picture."""
    site = folder / "site"
    for page, text in {"a": html, "b": '<h2 id="there">There</h2>'}.items():
        (site / page).mkdir(parents=True, exist_ok=True)
        (site / page / "index.html").write_text(text)
    (site / "plot.svg").write_text("<svg/>")
    (folder / "examples").mkdir(exist_ok=True)
    (folder / "examples" / "one.yaml").touch()
    return list(broken_links(site, folder))


@pytest.mark.parametrize(
    "html",
    [
        '<a href="../b/#there">page</a>',
        '<a href="../b/">page</a>',
        '<a href="/jobfn/b/">page</a>',
        '<a href="https://constructive-io.github.io/jobfn/b/#there">page</a>',
        '<h2 id="own">Own</h2><a href="#own">anchor</a>',
        '<img src="../plot.svg">',
        f'<a href="{REPOSITORY}">repository</a>',
        f'<a href="{REPOSITORY}/blob/main/examples/one.yaml">file</a>',
        f'<a href="{REPOSITORY}/tree/main/examples">folder</a>',
        '<a href="https://www.postgresql.org/docs/">not read</a>',
        '<a href="mailto:security@example.com">not read</a>',
    ],
)
def test_working_links_pass(tmp_path: Path, html: str) -> None:
    assert check(tmp_path, html) == []


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="../c/">page</a>', "../c/ is not a page of the site"),
        ('<a href="../b/#gone">anchor</a>', "../b/#gone names an anchor that the page does not have"),
        ('<img src="../family-1.svg">', "../family-1.svg is not a file of the site"),
        (
            f'<img src="{REPOSITORY}/blob/main/plot.svg">',
            f"loads {REPOSITORY}/blob/main/plot.svg from another host: use a file of the site",
        ),
        (
            '<script src="https://cdn.example.com/x.js"></script>',
            "loads https://cdn.example.com/x.js from another host: use a file of the site",
        ),
        (
            f'<a href="{REPOSITORY}" class="md-source" data-md-component="source">the theme counts stars</a>',
            "loads https://api.github.com from another host: use a file of the site",
        ),
        (
            f'<a href="{REPOSITORY}blob/main/examples/one.yaml">missing slash</a>',
            f"{REPOSITORY}blob/main/examples/one.yaml is not a file of the repository",
        ),
        (
            f'<a href="{REPOSITORY}/blob/main/examples/two.yaml">missing file</a>',
            f"{REPOSITORY}/blob/main/examples/two.yaml is not a file of the repository",
        ),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, html: str, fault: str) -> None:
    assert check(tmp_path, html) == [f"a/index.html: {fault}"]
