"""The house rules that imports can prove: room order, owners, which packages stay out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROOMS = (
    ("errors", ("birdlab.errors", "birdlab.timing", "birdlab.words")),
    ("spec", ("birdlab.spec",)),
    ("lab", ("birdlab.labfile", "birdlab.lab")),
    ("data", ("birdlab.data",)),
    ("evaluate", ("birdlab.evaluate",)),
    ("infer", ("birdlab.infer",)),
    ("sed", ("birdlab.sed",)),
    (
        "run",
        (
            "birdlab.run",
            "birdlab.campaign",
            "birdlab.tasks",
            "birdlab.record",
            "birdlab.environment",
            "birdlab.runresult",
            "birdlab.scoring",
            "birdlab.recorded",
            "birdlab.recordshape",
            "birdlab.cellfiles",
            "birdlab.cellorder",
            "birdlab.keeping",
            "birdlab.plan",
            "birdlab.cellplan",
            "birdlab.cellbuilder",
            "birdlab.celldocument",
            "birdlab.softlabels",
            "birdlab.teaching",
            "birdlab.teacherplans",
            "birdlab.unlabelled",
            "birdlab.datasets",
            "birdlab.more",
            "birdlab.rows",
            "birdlab.tables",
            "birdlab.stages",
            "birdlab.celljob",
            "birdlab.jobwriter",
            "birdlab.cell",
            "birdlab.cellclips",
            "birdlab.lacks",
            "birdlab.network",
            "birdlab.validation",
            "birdlab.heldout",
            "birdlab.soundscapes",
            "birdlab.synthetic",
            "birdlab.synthshow",
            "birdlab.clipshow",
            "birdlab.scaffold",
            "birdlab.schemafiles",
            "birdlab.presets",
            "birdlab.soup",
            "birdlab.spreadsheets",
            "birdlab.onecell",
            "birdlab.rounds",
            "birdlab.runtables",
            "birdlab.storedrun",
            "birdlab.inputs",
            "birdlab.processes",
            "birdlab.costs",
            "birdlab.durations",
            "birdlab.heardrecording",
            "birdlab.heardstore",
            "birdlab.hearing",
            "birdlab.lessons",
            "birdlab.teachers",
            "birdlab.onnxteacher",
        ),
    ),
    ("tracking", ("birdlab.tracking",)),
    ("study", ("birdlab.study",)),
    ("sweep", ("birdlab.sweep",)),
    ("promote", ("birdlab.promote",)),
    ("upkeep", ("birdlab.upkeep",)),
    ("cli", ("birdlab.cli",)),
)
"""The rooms from the top down; a room imports only itself and rooms above it."""

ORDER = {room: place for place, (room, _) in enumerate(ROOMS)}

ALLOWED = {
    "infer": (
        "birdlab.errors",
        "birdlab.timing",
        "birdlab.data.audio",
        "birdlab.data.audiofile",
        "birdlab.evaluate.blends",
        "birdlab.evaluate.passes",
        "birdlab.evaluate.pooling",
        "birdlab.evaluate.postprocess",
        "birdlab.evaluate.poststeps",
        "birdlab.evaluate.probabilities",
        "birdlab.evaluate.stepchecks",
        "birdlab.evaluate.windows",
    ),
    "dashboards": (
        "birdlab.errors",
        "birdlab.evaluate",
        "birdlab.lab",
        "birdlab.recorded",
        "birdlab.runtables",
        "birdlab.spec",
        "birdlab.spreadsheets",
        "birdlab.study",
        "birdlab.tracking.index",
        "birdlab.tracking.resolve",
        "dashboards",
    ),
}
"""Rooms that may import less than everything above them."""

OWNERS = {
    "torch": (
        "birdlab.sed",
        "birdlab.cell",
        "birdlab.network",
        "birdlab.costs",
        "birdlab.validation",
        "birdlab.softlabels",
        "birdlab.heldout",
        "birdlab.lessons",
        "birdlab.clipshow",
        "birdlab.promote",
    ),
    "torchaudio": (),
    "timm": ("birdlab.sed", "birdlab.promote"),
    "huggingface_hub": ("birdlab.sed.hub",),
    "mlflow": ("birdlab.tracking", "birdlab.promote.registry"),
    "optuna": ("birdlab.sweep",),
    "dask": (),
    "distributed": ("birdlab.sweep",),
    "submitit": ("birdlab.sweep",),
    "onnxruntime": ("birdlab.infer", "birdlab.promote"),
    "openvino": ("birdlab.infer",),
    "onnx": ("birdlab.promote",),
    "plotly": ("birdlab.study",),
    "dash": ("dashboards",),
    "typer": ("birdlab.cli",),
    "rich": ("birdlab.cli",),
    "sklearn": ("birdlab.data.folds",),
    "requests": ("birdlab.data.xenocanto", "birdlab.tracking"),
    "tenacity": ("birdlab.data.xenocanto", "birdlab.tracking"),
}
"""Who may import each heavy package."""

INFER_PACKAGES = {"numpy", "pandas", "soundfile", "soxr", "onnxruntime", "openvino"}

Import = tuple[int, str]


def module_files() -> dict[str, Path]:
    """Every module of the two packages by dotted name."""
    found = {}
    for package in ("birdlab", "dashboards"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_files()


def imports_of(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[Import]:
    """(line, dotted name) of every import, wherever it stands.

    `from a import b` gives `a.b` where that is a module of ours, else `a`. What stands under
    `if TYPE_CHECKING` counts too: an arrow that only types need is still an arrow.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            target = node.module or ""
            if node.level:
                parents = module.split(".")
                kept = len(parents) - node.level + is_package
                target = ".".join([*parents[:kept], *filter(None, [target])])
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                yield node.lineno, inner if inner in MODULES else target
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def room_of(module: str) -> str | None:
    """The room of a module; None for the package `birdlab` itself and other packages."""
    if is_within(module, ("dashboards",)):
        return "dashboards"
    return next((room for room, prefixes in ROOMS if is_within(module, prefixes)), None)


def forbidden_arrows(module: str, imports: list[Import]) -> list[str]:
    """What `module` imports of ours and may not."""
    room = room_of(module)
    wrong = []
    for line, target in imports:
        theirs = room_of(target)
        if theirs is None or room is None or theirs == room:
            continue
        if theirs == "dashboards":  # only the command that serves them asks for them
            allowed = room == "cli"
        elif room in ALLOWED:
            allowed = is_within(target, ALLOWED[room])
        else:
            allowed = ORDER[theirs] < ORDER[room]
        if not allowed:
            wrong.append(f"{module}:{line} ({room}) imports {target} ({theirs})")
    return wrong


def foreign_heavy(module: str, imports: list[Import]) -> list[str]:
    """The heavy packages that `module` imports without owning them."""
    wrong = []
    for line, target in imports:
        package = target.split(".")[0]
        if package in OWNERS and not is_within(module, OWNERS[package]):
            wrong.append(f"{module}:{line} imports {target}")
    return wrong


def parsed(module: str) -> tuple[ast.AST, list[Import]]:
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tree, list(imports_of(tree, module, path.name == "__init__.py"))


def test_every_module_lies_in_a_room() -> None:
    homeless = [m for m in MODULES if room_of(m) is None and m != "birdlab"]
    assert homeless == []
    assert len(MODULES) > 60


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_above_it(module: str) -> None:
    assert forbidden_arrows(module, parsed(module)[1]) == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_have_one_owner(module: str) -> None:
    assert foreign_heavy(module, parsed(module)[1]) == []


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "infer"])
def test_inference_needs_few_packages(module: str) -> None:
    packages = {target.split(".")[0] for _, target in parsed(module)[1]}
    foreign = packages - INFER_PACKAGES - {"birdlab"} - set(sys.stdlib_module_names)
    assert foreign == set()


def test_the_rules_can_fail() -> None:
    code = (
        "import torch\nfrom birdlab.cli import app\nfrom . import fold\nfrom ..run import x\n"
        "def f():\n    import plotly.io\n"
    )
    tree = ast.parse(code)
    found = list(imports_of(tree, "birdlab.data.folds"))
    assert (3, "birdlab.data") in found and (4, "birdlab.run") in found
    assert [w.split(" imports ")[1] for w in forbidden_arrows("birdlab.data.folds", found)] == [
        "birdlab.cli.app (cli)",
        "birdlab.run (run)",
    ]
    assert [w.split(" imports ")[1] for w in foreign_heavy("birdlab.data.folds", found)] == [
        "torch",
        "plotly.io",
    ]


PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_table_of_rooms_on_the_page_is_what_is_enforced() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = [[name.strip("/") for name in re.findall(r"`([a-z/]+)`", row)] for row in rows]
    assert len(told) == len(ROOMS) + 1 and told[-1] == ["dashboards"]
    for names, (_, modules) in zip(told, ROOMS, strict=False):
        assert sorted(f"birdlab.{name}" for name in names) == sorted(modules)


def test_the_owners_on_the_page_are_who_imports() -> None:
    users = {(m, target.split(".")[0]) for m in MODULES for _, target in parsed(m)[1]}
    used: dict[str, set[str]] = {}
    for module, package in users:
        if package in OWNERS:
            used.setdefault(room_of(module) or "", set()).add(package)
    rows = [line.split("|")[3] for line in PAGE.splitlines() if line.startswith("| `")]
    rooms = [*(room for room, _ in ROOMS), "dashboards"]
    for room, cell in zip(rooms, rows, strict=True):
        names = re.split(r", | and ", re.sub(r" \(.*?\)", "", cell.strip()))
        told = {name.replace("scikit-learn", "sklearn") for name in names if name}
        assert told == used.get(room, set()), room
    idle = [
        (package, owner)
        for package, owners in OWNERS.items()
        for owner in owners
        if not any(is_within(module, (owner,)) for module, name in users if name == package)
    ]
    assert idle == [], "owners that do not import what they own"


def test_the_files_that_the_page_names_are_there() -> None:
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", PAGE)
    assert len(named) > 5
    lost = [n for n in named if not any((ROOT / d / n).is_file() for d in ("", "birdlab"))]
    assert lost == []


ARROWS = re.findall(r"^([a-z_.]+):(\w+) +-> ([a-z_.]+):(\w+)$", PAGE, re.MULTILINE)


def test_the_page_has_the_way_to_the_submission() -> None:
    assert len(ARROWS) == PAGE.count(" -> ") > 8
    assert ARROWS[0][0] == "cli.training" and ARROWS[-1][2].startswith("infer")


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda a: f"{a[0]}-{a[3]}")
def test_each_arrow_of_the_page_is_in_the_source(arrow: tuple[str, str, str, str]) -> None:
    caller, above, called, function = arrow
    tree, imports = parsed(f"birdlab.{caller}")
    assert f"birdlab.{called}" in {target for _, target in imports}
    for module, name in ((caller, above), (called, function)):
        body = parsed(f"birdlab.{module}")[0]
        assert isinstance(body, ast.Module)
        assert name in {getattr(node, "name", "") for node in body.body}, module
    uses = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert function in uses


LIGHT = {
    "birdlab.plan": ("torch", "mlflow", "plotly", "optuna", "onnxruntime", "dash"),
    "birdlab.sed.steps": ("torch", "mlflow"),
    "birdlab.sed.sampler": ("torch", "mlflow"),
    "birdlab.sed.draws": ("torch", "mlflow"),
    "birdlab.run": ("torch", "mlflow", "plotly"),
    "birdlab.sweep.driver": ("torch", "mlflow", "optuna", "plotly"),
    "birdlab.tracking.links": ("torch", "mlflow", "pandas", "sklearn"),
    "birdlab.infer.predict": ("torch", "mlflow", "plotly", "sklearn", "scipy", "pydantic"),
    "birdlab.cli.app": ("torch", "mlflow", "pandas", "numpy", "plotly", "pydantic"),
    "dashboards.app": ("torch", "mlflow", "optuna"),
}
"""What importing a module may not bring along."""


def test_no_two_files_of_tests_have_one_name() -> None:
    """Else pytest collects the first and refuses the whole run."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, n in names.items() if n > 1] == []


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "if sys.argv[1] == 'cli':\n    birdlab.cli.app._register()\n"
        f"print(*(p for p in {LIGHT[module]!r} if p in sys.modules))"
    )
    role = "cli" if module == "birdlab.cli.app" else ""
    done = subprocess.run(
        [sys.executable, "-c", code, role], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
