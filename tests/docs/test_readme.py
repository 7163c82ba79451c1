"""README.md is also the page on the package index, which has no files to link to."""

import re

from support.docs.blocks import ROOT

README = (ROOT / "README.md").read_text("utf-8")
REPOSITORY = re.compile(
    r"https://(?:github\.com/constructive-io/jobfn/(?:blob|tree)|raw\.githubusercontent\.com/constructive-io/jobfn)/main/"
    r"([^#]+)(?:#(.+))?"
)


def links() -> list[str]:
    inline = re.findall(r"\]\(([^)]+)\)", README)
    return inline + re.findall(r"^\[[^\]]+\]: (\S+)$", README, re.MULTILINE)


def test_links_are_absolute_and_lead_to_files_of_the_repository() -> None:
    found = links()
    assert len(found) >= 25
    for link in found:
        match = REPOSITORY.fullmatch(link)
        assert match, f"{link} is not a link to the repository on GitHub"
        file = ROOT / match[1]
        assert file.exists(), link
        if match[2]:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert match[2] in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_each_reference_is_used_and_defined() -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", README, flags=re.DOTALL)
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    used = {label or name for name, label in re.findall(r"(?<!!)\[([^\]]+)\](?:\[([^\]]+)\])?(?![(:])", text)}
    assert used == defined
