"""The page of every error that birdlab raises, read from the source: docs/reference/errors.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("birdlab", "dashboards")
HELP = ("expected", "fix")

HEAD = """# Errors

Every error of birdlab is one of the classes below. It says what is wrong and, where that is known,
where, what was found, what was expected and what to do. The command ends with exit code 1; nothing
is printed with a traceback but bugs. For example:

```
error: the lab knows no data set 'birds'
  where:    birdlab.toml of the lab
  expected: one of demo, demo-soundscapes
  fix:      add it under [data]: birds = "path/to/folder"
```

Search this page for words of the message. `<name>` stands for a value that is put in. Messages are
in the order of the rooms ([architecture.md](../architecture.md)) that raise them. What is wrong in
the fields of a spec or lab file is told line by line under `a spec does not hold`; what each field
may hold is in the reference of the spec. `python docs/generate.py` makes this page from the source.
"""


@dataclass(frozen=True)
class Told:
    """One message: its class, the file and line that raise it, and the words of each part."""

    kind: str
    file: str
    line: int
    what: str
    expected: str = ""
    fix: str = ""
    code: str = ""

    @property
    def helps(self) -> bool:
        """Whether it says what is expected or what to do."""
        return bool(self.expected or self.fix)


def errors_page() -> str:
    """The page as Markdown: classes of the tree, rooms, messages; the same on every machine."""
    told, tree = read_errors(), error_tree()
    lines = [HEAD, "## The classes", ""]
    lines += [f"- {'`' + name + '`'}: {said}" for name, (_, said) in tree.items()]
    for name in tree:
        own = [t for t in told if t.kind == name]
        if own:
            lines += ["", f"## {name}", "", tree[name][1]]
        for room in dict.fromkeys(room_of(t.file) for t in own):
            lines += ["", f"### {name} in {room}"]
            lines += _merged([t for t in own if room_of(t.file) == room])
    return "\n".join(lines).rstrip() + "\n"


def read_errors() -> list[Told]:
    """Every place in the source that makes an error of the tree, in the order of the files."""
    known = set(error_tree())
    found: list[Told] = []
    for path in source_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = _constants(tree)
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in known:
                found.append(_read_call(node, file, named))
    return sorted(found, key=lambda t: (t.file, t.line))


def error_tree() -> dict[str, tuple[str, str]]:
    """Each class of the tree by name: (the class it is made from, its docstring's first line)."""
    found: dict[str, tuple[str, str]] = {}
    first, *others = [ROOT / "birdlab/errors.py", *source_files()]
    for path in (first, *(o for o in others if o != first)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                above = [ast.unparse(base) for base in node.bases]
                if node.name == "BirdlabError" or any(base in found for base in above):
                    said = (ast.get_docstring(node) or "").split("\n")[0]
                    found[node.name] = (above[0], said)
    return found


def source_files() -> list[Path]:
    """Every module of the two packages, sorted."""
    return sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))


def room_of(file: str) -> str:
    """The room of a file of the source, as the table of docs/architecture.md names it."""
    parts = Path(file).with_suffix("").parts
    if parts[0] != "birdlab":
        return parts[0]
    return parts[1] if len(parts) > 2 or parts[1] in ("errors", "lab") else "run"


def _read_call(node: ast.Call, file: str, named: Mapping[str, ast.expr]) -> Told:
    parts = {k.arg: words(k.value, named) for k in node.keywords if k.arg}
    what = words(node.args[0], named) if node.args else parts.get("what", "")
    return Told(
        ast.unparse(node.func).split(".")[-1],
        file,
        node.lineno,
        what,
        parts.get("expected", ""),
        parts.get("fix", ""),
        ast.unparse(node),
    )


def words(node: ast.expr, named: Mapping[str, ast.expr]) -> str:
    """The text that an expression makes, with `<name>` for what only a run knows."""
    if isinstance(node, ast.Constant):
        return "" if node.value is None else str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part, named) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return words(node.value, named)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words(node.left, named) + words(node.right, named)
    if isinstance(node, ast.IfExp):
        either = [words(node.body, named), words(node.orelse, named)]
        return " / ".join(dict.fromkeys(filter(None, either)))
    if isinstance(node, ast.BoolOp):
        return " / ".join(dict.fromkeys(words(value, named) for value in node.values))
    if isinstance(node, ast.Name) and node.id in named:
        return words(named[node.id], {})
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "nearest":
        return "a known name: <the nearest>"
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("'.join"):
        return f"<{_label(node)}, ...>"
    return f"<{_label(node)}>"


def _label(node: ast.expr) -> str:
    """A short name of a value: its variable, attribute, or what a function is given."""
    if isinstance(node, ast.Name):
        return node.id.strip("_")
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Call):
        given = next((a for a in node.args if not isinstance(a, ast.Constant)), node.func)
        return _label(given)
    if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp):
        return _label(node.generators[0].iter)
    inner = next(iter(ast.iter_child_nodes(node)), None)
    return _label(inner) if isinstance(inner, ast.expr) else "value"


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the module calls a text of its own: NAME → the expression, at the top level."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(node.value, ast.Constant | ast.JoinedStr):
            found[node.targets[0].id] = node.value
    return found


def _merged(told: Sequence[Told]) -> Iterator[str]:
    """A line per message; those that differ only in their help stand together."""
    seen: dict[str, list[str]] = {}
    for one in told:
        said = seen.setdefault(one.what, [])
        for label, text in (("expected", one.expected), ("fix", one.fix)):
            part = _code(f"{label}: {text}")
            if text and part not in said:
                said.append(part)
    for what, said in sorted(seen.items()):
        yield ", ".join([f"- {_code(what)}", *said])


def _code(text: str) -> str:
    """Text as Markdown code on one line."""
    flat = re.sub(r"\s+", " ", text).strip()
    ticks = "``" if "`" in flat else "`"
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{pad}{flat}{pad}{ticks}"
