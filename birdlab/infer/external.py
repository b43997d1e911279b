"""The files that an ONNX file keeps its weights in, read from its bytes without the package onnx.

A location is a text of whoever made the file: `../../etc/passwd`, say, which the runtime would map.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from birdlab.errors import PredictError

_MODEL, _GRAPH, _NODE, _ATTRIBUTE = "model", "graph", "node", "attribute"
_TENSOR, _SPARSE, _FUNCTION, _ENTRY = "tensor", "sparse tensor", "function", "external data"
_INSIDE = {
    _MODEL: {7: _GRAPH, 20: "training", 25: _FUNCTION},
    "training": {1: _GRAPH, 2: _GRAPH},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
"""Message → number of a field → the message in it. Source: onnx.proto of ONNX 1.23."""
_DEEPEST = 100


def check_external(path: Path) -> None:
    """Nothing; PredictError where a weight of the ONNX file lies outside of its folder.

    Locations are relative, without `..`, and lead to a file of the folder after all links.
    """
    folder = path.parent.resolve()
    for location in external_locations(path):
        parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
        inside = not PurePosixPath(location).is_absolute() and ".." not in parts
        inside = inside and not PureWindowsPath(location).drive and "\0" not in location
        if not inside or not (folder / location).resolve().is_relative_to(folder):
            raise PredictError(
                "an ONNX file asks for weights outside of its folder",
                where=str(path),
                got=repr(location)[:200],
                expected="a file beside it",
                fix="leave the file alone, unless you know who made it; then save it again with "
                "its weights beside it",
            )


def external_locations(path: Path) -> list[str]:
    """The names of the files that an ONNX file keeps weights in, sorted; empty for one whole file.

    Raises PredictError for a file that cannot be read or is no ONNX file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return sorted(set(_locations(data, 0, len(data), _MODEL, 0)))
    except (OSError, ValueError, IndexError) as error:
        raise PredictError(
            "cannot load the model: it is no ONNX file",
            where=str(path),
            got=str(error) or type(error).__name__,
            fix="promote the run again, or copy the file again if it was cut off",
        ) from None


def _locations(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"graphs within graphs, {depth} deep")
    inside = _INSIDE[kind]
    for number, start, stop in _fields(data, at, end):
        inner = inside.get(number)
        if inner == _ENTRY:
            entry = {n: bytes(data[a:b]) for n, a, b in _fields(data, start, stop)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8", "backslashreplace")
        elif inner is not None:
            yield from _locations(data, start, stop, inner, depth + 1)


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field of a message that holds bytes; others are passed over."""
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("it was cut off, or is of another kind")
            yield key >> 3, at, at + size
            at += size
        else:
            raise ValueError(f"a field of the unknown kind {wire}")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
