"""Teachers by name: promoted models, and ONNX files that `[teachers]` describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdlab.data.classes import ClassList
from birdlab.data.sources.labelmaps import load_map
from birdlab.errors import BirdlabError, DataError, LabError, PredictError
from birdlab.evaluate.windows import Windowing
from birdlab.infer.card import read_card
from birdlab.infer.checksums import file_sha256
from birdlab.infer.external import external_locations
from birdlab.infer.models import find_model, hash_model, weights_beside
from birdlab.infer.session import open_session
from birdlab.lab import LAB_FILE, Lab
from birdlab.onnxteacher import OnnxTeacher
from birdlab.spec.identity import digest
from birdlab.spec.kinds import nearest
from birdlab.spec.teaching import TeacherFile


def open_teacher(
    lab: Lab, name: str, *, threads: int | None = None, planned: str | None = None
) -> OnnxTeacher:
    """The teacher of that name: an entry of `[teachers]`, else a promoted model.

    A promoted model is named as anywhere: `@champion`, its name or the start of it, its version.
    Nothing is heard yet. `planned` is the identity of the one that is meant. Raises LabError for
    a name that is nothing or whose file is not there, DataError or PredictError for a file that
    is not what is said of it, and DataError for another teacher than the planned one.
    """
    entry = lab.file.teachers.get(name)
    if entry is None:
        path, entry = _promoted(lab, name), TeacherFile(path="promoted")
    else:
        path = _file(lab, entry.path, f"teachers.{name}.path")
    teacher = _open(lab, name, path, entry, threads)
    if planned is not None and teacher.identity != planned:
        raise DataError(
            f"the teacher {name} is not the one that was planned with",
            where=str(path),
            got=f"another file or description: {teacher.identity}",
            expected=planned,
            fix="run the command again: it plans with the teacher as it is now",
        )
    return teacher


def _promoted(lab: Lab, name: str) -> Path:
    known = list(lab.file.teachers)
    try:
        if name.endswith(".onnx"):
            raise PredictError(f"{name!r} is a file: give it a name under [teachers]")
        return find_model(lab.models, name)
    except BirdlabError as error:
        raise LabError(
            f"the lab knows no teacher {name!r}",
            where=str(lab.root / LAB_FILE),
            got=error.what,
            expected=f"an entry of [teachers] ({nearest(name, known) if known else 'none yet'}) "
            f"or a promoted model: {error.expected or 'a name'}",
            fix=f'describe it: [teachers] {name.split(".")[0]} = {{path = "file.onnx", ...}}',
        ) from None


def _open(lab: Lab, name: str, path: Path, entry: TeacherFile, threads: int | None) -> OnnxTeacher:
    graph = open_session(path, threads or lab.jobs)
    metadata = dict(graph.get_modelmeta().custom_metadata_map)
    columns, windowing = _described(lab, name, path, entry, metadata)
    if entry.labels is not None:
        columns = _renamed(columns, _file(lab, entry.labels, f"teachers.{name}.labels"))
    shapes = {node.name: list(node.shape) for node in graph.get_outputs()}
    output = entry.output or (next(iter(shapes)) if len(shapes) == 1 else "probs")
    teacher = OnnxTeacher(
        name=name,
        path=path,
        sha256=_hash(path),
        columns=columns,
        windowing=windowing,
        normalise=windowing.normalise if entry.classes is None else entry.normalise,
        output_name=output,
        kind=entry.kind,
        embedding=entry.embedding,
        threads=threads or lab.jobs,
    )
    _check(teacher, [list(node.shape) for node in graph.get_inputs()], shapes)
    return teacher


def _hash(path: Path) -> str:
    """The SHA-256 of the file and of the weights beside it, by whatever name they go."""
    usual = weights_beside(path).name
    others = [path.parent / name for name in external_locations(path) if name != usual]
    found = hash_model(path)
    return digest([found, *map(file_sha256, others)], 64) if others else found


def _described(
    lab: Lab, name: str, path: Path, entry: TeacherFile, metadata: Mapping[str, str]
) -> tuple[tuple[str, ...], Windowing]:
    """The classes and windows of a file: as it says itself, or as the lab file says."""
    if entry.classes is None:
        card = read_card(metadata, str(path))
        return card.classes, card.windowing
    if entry.window_s is None or entry.sample_rate_hz is None:
        raise LabError(
            "a teacher is not described",
            where=f"{lab.root / LAB_FILE}: teachers.{name}",
            expected="window_s and sample_rate_hz beside classes",
            fix="add what the authors of the file say",
        )
    listed = _file(lab, entry.classes, f"teachers.{name}.classes")
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
        codes = ClassList(tuple(line.strip() for line in lines if line.strip())).codes
    except (OSError, ValueError, DataError) as error:
        raise DataError(
            "the classes of a teacher cannot be read",
            where=str(listed),
            got=error,
            expected="a text file with one code a line, each once",
        ) from None
    return codes, Windowing(entry.window_s, entry.sample_rate_hz)


def _renamed(columns: tuple[str, ...], path: Path) -> tuple[str, ...]:
    known = load_map(path)
    lacking = [code for code in columns if code not in known]
    if lacking:
        raise DataError(
            f"{len(lacking)} classes of a teacher are not in its label map",
            where=str(path),
            got=", ".join(lacking[:5]),
            expected="every class in the column `from`",
            fix="add a line for each; an empty `to` leaves the class out",
        )
    return tuple(known[code] for code in columns)


def _check(teacher: OnnxTeacher, inputs: list[list[Any]], shapes: Mapping[str, list[Any]]) -> None:
    """Nothing; DataError where the graph is not what is said of it."""

    def wrong(what: str, got: object, expected: str) -> DataError:
        return DataError(
            f"the graph of the teacher {teacher.name} is not what is said of it: {what}",
            where=str(teacher.path),
            got=got,
            expected=expected,
            fix=f"correct teachers.{teacher.name} in {LAB_FILE}",
        )

    n, shape = teacher.windowing.input_samples, inputs[0]
    if len(inputs) != 1 or len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != n):
        raise wrong("its input", f"shapes {inputs}", f"one input [windows, {n}]")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise wrong("its input", f"{shape[0]} windows at a time", "any number, or 1")
    if not teacher.codes:
        raise wrong("its label map", "no class is left", "a class at least")
    for output in filter(None, (teacher.output_name, teacher.embedding)):
        if output not in shapes:
            raise wrong("an output", output, f"one of {', '.join(shapes)}")
        width = shapes[output][-1]
        if len(shapes[output]) != 2:
            raise wrong(f"the output {output}", f"shape {shapes[output]}", "[windows, values]")
        is_classes = output == teacher.output_name
        if is_classes and isinstance(width, int) and width != len(teacher.columns):
            raise wrong("its classes", f"{width} columns", f"{len(teacher.columns)} classes")


def _file(lab: Lab, name: str, where: str) -> Path:
    path = (lab.root / name).resolve()
    if not path.is_file():
        raise LabError(
            "a file of a teacher is not there",
            where=where,
            got=str(path),
            fix="put it there, or correct its path under [teachers] in birdlab.toml",
        )
    return path
