"""What mkdocs does beyond its own: pages for the files of the repository that documents link to.

The documents link to each other and to other files by relative paths, as a code host shows them.
A site has only what lies in `docs/`; README, example specs and the like come in as pages below
`repository/`, and links to them are pointed there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)\s#]+)")
FENCE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The settings with anchors made as code hosts make them."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files with a page for each file of the repository that a page links to."""
    wanted, seen = list(ALWAYS), set[str]()
    for file in files.documentation_pages():
        wanted += outside(f"docs/{file.src_uri}", file.content_string)
    while wanted:
        path = wanted.pop()
        if path in seen:
            continue
        seen.add(path)
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".md"):
            wanted += outside(path, text)
        else:
            text = f"# {path}\n\n```{LANGUAGES.get(Path(path).suffix, '')}\n{text}```\n"
        files.append(File.generated(config, page_of(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page with links to files outside of `docs/` pointed at their pages."""
    uri = page.file.src_uri
    source = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"

    def point(target: str) -> str:
        path = resolve(source, target)
        inside = path.removeprefix("docs/") if path.startswith("docs/") else page_of(path)
        return posixpath.relpath(inside, posixpath.dirname(uri) or ".")

    return each_link(markdown, point)


def outside(source: str, text: str) -> list[str]:
    """The files of the repository, not in `docs/`, that the document `source` links to."""
    found: list[str] = []

    def note(target: str) -> str:
        path = resolve(source, target)
        if not path.startswith(("docs/", "..")) and (ROOT / path).is_file():
            found.append(path)
        return target

    each_link(text, note)
    return found


def each_link(text: str, change: Callable[[str], str]) -> str:
    """`text` with the target of each relative link changed; code stays as it is."""

    def replace(match: re.Match[str]) -> str:
        opening, target = match.groups()
        return match[0] if ":" in target else opening + change(target)

    parts = FENCE.split(text)
    return "".join(p if i % 2 else LINK.sub(replace, p) for i, p in enumerate(parts))


def resolve(source: str, target: str) -> str:
    """The path in the repository that `target` means in the document `source`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def page_of(path: str) -> str:
    """The page of the site on which a file of the repository is."""
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"
