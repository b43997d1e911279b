"""The documents as tests read them: their blocks of code, links, anchors and command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"{p.relative_to(ROOT)}" for p in (ROOT / "docs").rglob("*.md")),
]
PLACEHOLDER = re.compile(r"\[?[A-Z][A-Z_]*(\.\.\.)?\]?")
"""What stands for a value in a command line: SPEC, RUN, X."""
CONSOLE = ("", "console", "sh", "bash")
"""Languages of blocks in which command lines stand."""
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What wrong usage raises: that of the Click which Typer has, be it inside it or beside it."""


@dataclass(frozen=True)
class Block:
    """A block of code: where it begins, its language, and the HTML comment right before it."""

    document: str
    line: int
    language: str
    text: str
    comment: str

    @property
    def place(self) -> str:
        """Where a person finds it."""
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class CommandLine:
    """What follows `birdlab` in a document; `whole` where a person could type it as it stands."""

    place: str
    words: tuple[str, ...]
    whole: bool


def text_of(name: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def tokens_of(name: str) -> list[Token]:
    """A document as CommonMark with tables, which is how code hosts show it."""
    return MarkdownIt("commonmark").enable("table").parse(text_of(name))


def blocks(name: str) -> list[Block]:
    """All blocks of code of a document, fenced and indented ones."""
    found, comment = [], ""
    for token in tokens_of(name):
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            found.append(Block(name, line, token.info.strip(), token.content, comment))
        comment = token.content.strip() if token.type == "html_block" else ""
    return found


def targets(name: str) -> list[str]:
    """Where links and pictures of a document lead."""
    found = []
    for token in tokens_of(name):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                found.append(str(target))
    return found


@cache
def anchors(name: str) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    found: set[str] = set()
    for heading, inline in zip(tokens_of(name), tokens_of(name)[1:], strict=False):
        if heading.type == "heading_open":
            said = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
            copies = sum(bool(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", f)) for f in found)
            found.add(f"{slug}-{copies}" if copies else slug)
    return found


def command_lines(name: str, program: str = "birdlab") -> Iterator[CommandLine]:
    """The command lines of a document: in blocks, where they are whole, and named in the text."""
    for block in blocks(name):
        if block.language in CONSOLE:
            for line in block.text.replace("\\\n", " ").splitlines():
                yield from _commands(block.place, line, program, block.language == "console")
    for token in tokens_of(name):
        place = f"{name}:{(token.map or [0])[0] + 1}"
        for child in token.children or ():
            if child.type == "code_inline" and child.content.startswith(f"{program} "):
                words = child.content.replace("[", "").replace("]", "").replace(" ...", "")
                for line in _commands(place, words, program, prompted=False):
                    yield CommandLine(place, line.words, whole=False)


def _commands(place: str, line: str, program: str, prompted: bool) -> Iterator[CommandLine]:
    """Those of one line: after a prompt, `&&`, `|` and `;`, without settings before them."""
    if not re.match(rf"(\$ )?([A-Z_]+=\S+ )*(.*&& )?{program} ", line) or (
        prompted and not line.startswith("$ ")
    ):
        return
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, "&&"]:
        if not set(word) <= set("|&;>"):
            part.append(word)
            continue
        while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
            part.pop(0)
        if part[:1] == [program]:
            words = tuple(w for w in part[1:] if w not in ("...", "[OPTIONS]"))
            yield CommandLine(place, words, whole=len(words) == len(part) - 1)
        part = []


def misused(command: Any, line: CommandLine) -> str | None:
    """What the real command line would refuse in `line`, or None.

    Words for values (RUN, X) pass for any value. Whether a file exists is not asked.
    """
    context = typer.Context(command, info_name="birdlab")
    words = list(line.words)
    try:
        while hasattr(command, "commands"):
            values, words, _ = command.make_parser(context).parse_args(words)
            if not words:
                alone = command.invoke_without_command or values or not line.whole
                return None if alone else "no command"
            if words[0] == "COMMAND":
                return None
            found = command.get_command(context, words[0])
            if found is None:
                return f"no command {words[0]!r}"
            command, words = found, words[1:]
            context = typer.Context(
                command, info_name=command.name, parent=context, **command.context_settings
            )
        values, left, _ = command.make_parser(context).parse_args(words)
    except USAGE_ERROR as error:
        return error.message if line.whole or "requires" not in error.message else None
    if left:
        return f"too many words: {left}"
    return next(filter(None, (_refused(context, p, values, line) for p in command.params)), None)


def _refused(
    context: typer.Context, param: Any, values: dict[str, Any], line: CommandLine
) -> str | None:
    """Why a parameter does not take its value, or None."""
    value = values.get(param.name or "")
    if not isinstance(value, str | tuple | list) or not value:
        return f"{param.name} is missing" if param.required and line.whole else None
    said = [value] if isinstance(value, str) else [v for v in value if isinstance(v, str)]
    for word in said:  # commands that take -1 as a run take any option for one
        if param.param_type_name == "argument" and re.match("-[^0-9]", word):
            return f"no option {word}"
    if any(PLACEHOLDER.fullmatch(v) for v in said):
        return None
    try:
        param.process_value(context, value)
    except typer.BadParameter as error:
        absent = "does not exist" in error.message
        return None if absent else f"{param.name}: {error.message}"
    return None
