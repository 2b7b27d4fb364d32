"""The pages of docs/: what they show is sound, where they lead to is there, and the index has all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agent_runner.models.script import parse_script
from stigmer_cli.manifests import load
from stigmer_cli.manifests.files import File

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*/README.md"), ROOT / "examples" / "README.md"]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def blocks(*beginnings: str) -> list[tuple[str, str]]:
    """The blocks of YAML that have a line which begins so, with the page that each stands on."""
    found = [(page.name, block) for page in PAGES for block in _BLOCK.findall(page.read_text(encoding="utf-8"))]
    wanted = re.compile(rf"^(?:{'|'.join(beginnings)})", re.MULTILINE)
    return [(page, block) for page, block in found if wanted.search(block)]


@pytest.mark.parametrize(("page", "text"), blocks("kind: "))
def test_resources_that_are_shown_are_sound(page: str, text: str) -> None:
    _, problems = load([File(name=page, text=text.replace("-…", f"-{'0' * 26}"))])
    assert [str(problem) for problem in problems] == []


@pytest.mark.parametrize(("page", "text"), blocks("conversations:", "turns:"))
def test_scripts_that_are_shown_are_sound(page: str, text: str) -> None:
    assert parse_script(text, name=page)


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost: list[str] = []
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in link or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = {link.partition("#")[0] for link in _LINK.findall(index)}
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.parent.name != "adr"}
    assert pages - listed == {"README.md"}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
