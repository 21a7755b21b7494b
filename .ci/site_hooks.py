"""What MkDocs needs to show pages that are written to be read in the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Show the README as the first page, and files outside of docs/ by their names."""
    if page.file.src_uri == "index.md":
        markdown = (ROOT / "README.md").read_text(encoding="utf-8")
        return _LINK.sub(lambda link: _within(link, Path()), markdown)
    return _LINK.sub(lambda link: _within(link, Path("docs")), markdown)


def _within(link: re.Match, folder: Path) -> str:
    """Return a link of a page in `folder` as one of a page in docs/, where its target lies there."""
    target = link["target"]
    if "://" in target:
        return link[0]
    path = (ROOT / folder / target).resolve().relative_to(ROOT)
    if path.parts[:1] == ("docs",):
        return f"[{link['text']}]({path.relative_to('docs')}{link['anchor'] or ''})"
    if not (ROOT / path).exists():
        return link[0]  # MkDocs names it
    return f"{link['text'].strip('`')} (`{path}`)"
