"""Calls that source may not make, because they run or unpack foreign content or leak: by AST."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Names = Mapping[str, str]
"""What a module calls a thing → its full dotted name."""

VERBS = ("get", "post", "put", "patch", "delete", "head", "request")


@dataclass(frozen=True)
class Rule:
    """What is forbidden, in words; whether a call breaks it; code that does."""

    said: str
    broken_by: Callable[[str, ast.Call], bool]
    example: str


def _named(*names: str) -> Callable[[str, ast.Call], bool]:
    """Calls of these names, or of anything below one that ends with a dot."""
    whole = frozenset(n for n in names if not n.endswith("."))
    below = tuple(n for n in names if n.endswith("."))
    return lambda name, call: name in whole or name.startswith(below)


def _value(call: ast.Call, keyword: str) -> object:
    """What a keyword is set to: its constant, `...` for any other expression, None when absent."""
    for given in call.keywords:
        if given.arg == keyword:
            return given.value.value if isinstance(given.value, ast.Constant) else ...
    return None


def _unlimited_request(name: str, call: ast.Call) -> bool:
    receiver, _, verb = name.rpartition(".")
    asks = receiver == "requests" or receiver.lower().endswith("session")
    return asks and verb in VERBS and _value(call, "timeout") is None


RULES = (
    Rule(
        "runs text as code",
        _named("eval", "exec", "compile", "builtins.", "runpy.", "pandas.eval"),
        "eval('1')",
    ),
    Rule("imports by a computed name", _named("__import__"), "__import__(name)"),
    Rule(
        "evaluates an expression over a table",
        lambda name, call: name.endswith((".eval", ".query")) and _is_text(call),
        "table.query(f'{x} > 1')",
    ),
    Rule(
        "reads or writes pickles",
        _named(
            *("pickle.", "_pickle.", "cPickle.", "dill.", "cloudpickle.", "joblib.", "marshal."),
            *("shelve.", "jsonpickle.", "pandas.read_pickle", "torch.jit.load", "torch.hub.load"),
            *("mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "torch.save"),
        ),
        "from pickle import loads as read\nread(b'')",
    ),
    Rule("writes a pickle", lambda name, call: name.endswith(".to_pickle"), "table.to_pickle('x')"),
    Rule(
        "reads arrays that may be pickles",
        lambda name, call: _value(call, "allow_pickle") not in (None, False),
        "import numpy as np\nnp.load(p, allow_pickle=True)",
    ),
    Rule(
        "reads weights that may be code",
        lambda name, call: name == "torch.load" and _value(call, "weights_only") is not True,
        "import torch\ntorch.load(p)",
    ),
    Rule(
        "reads YAML that may make objects",
        lambda name, call: (
            name in ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all")
            or (name.endswith("YAML") and _value(call, "typ") in ("unsafe", ...))
        ),
        "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
    ),
    Rule(
        "hands text to a shell",
        lambda name, call: (
            name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
            or _value(call, "shell") not in (None, False)
        ),
        "import subprocess\nsubprocess.run(text, shell=True)",
    ),
    Rule(
        "makes a temporary name that others can take",
        _named("tempfile.mktemp"),
        "tempfile.mktemp()",
    ),
    Rule("asks a server without a time limit", _unlimited_request, "session.get(url)"),
    Rule(
        "trusts any server",
        lambda name, call: (
            _value(call, "verify") is False or name == "ssl._create_unverified_context"
        ),
        "requests.get(url, verify=False, timeout=5)",
    ),
    Rule(
        "unpacks an archive as it likes",
        lambda name, call: (
            name.endswith(".extractall")
            or name == "shutil.unpack_archive"
            or (
                (name.startswith("tar") and name.endswith(".extract"))
                and _value(call, "filter") != "data"
            )
        ),
        "tar.extractall(folder)",
    ),
    Rule(
        "reads XML, which can grow without bound",
        _named("xml.", "lxml.", "pandas.read_xml", "pandas.read_html"),
        "import xml.etree.ElementTree as ET\nET.parse(p)",
    ),
    Rule(
        "loads native code of others",
        lambda name, call: name.endswith(".register_custom_ops_library"),
        "options.register_custom_ops_library(path)",
    ),
    Rule(
        "runs the server as developers do",
        lambda name, call: (
            _value(call, "debug") not in (None, False)
            or any(_value(call, k) not in (None, False) for k in ("use_debugger", "use_reloader"))
        ),
        "app.run(debug=True)",
    ),
)


def broken_rules(tree: ast.AST, rules: tuple[Rule, ...] = RULES) -> list[tuple[int, str, str]]:
    """(line, what it does, the call) of each call that breaks a rule, under whatever name."""
    names = imported_names(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = full_name(node.func, names)
            for rule in rules:
                if rule.broken_by(name, node):
                    found.append((node.lineno, rule.said, ast.unparse(node)[:80]))
    return found


def imported_names(tree: ast.AST) -> dict[str, str]:
    """What the module calls an import → the full name: `np` → `numpy`, `read` → `pickle.loads`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def full_name(node: ast.expr, names: Names) -> str:
    """The dotted name of what is called, with what the module calls its first part resolved."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    first = node.id if isinstance(node, ast.Name) else "()"
    return ".".join([names.get(first, first), *reversed(parts)])


def _is_text(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
