"""Files and names of others that are made to do harm: each is refused or made harmless."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from birdlab.cli import app as cli
from birdlab.cli.hosts import allowed_hosts, warn_of_host
from birdlab.cli.terminal import visible, visible_output
from birdlab.errors import BirdlabError, PredictError, SpecError
from birdlab.infer.external import check_external, external_locations
from birdlab.infer.openvino_session import OpenVinoPredictor
from birdlab.infer.session import open_session
from birdlab.lab import Lab
from birdlab.labfile import LabFile
from birdlab.sed.weights import load_backbone_weights
from birdlab.spreadsheets import csv_text
from birdlab.study.report import POLICY, page_html
from birdlab.study.site import SitePage, site_index_html, site_page_html
from birdlab.teachers import open_teacher

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp"


def write_model(path: Path, location: str, *, nested: bool = False) -> Path:
    """An ONNX file that adds a weight kept in the file `location` to its input [1, 4]."""
    weight = TensorProto(name="w", dims=[4], data_type=TensorProto.FLOAT)
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("wave", "out")
    ]
    if nested:
        node = helper.make_node("Constant", [], ["w"], value=weight)
        branch = helper.make_graph([node], "branch", [], [])
        nodes = [helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)]
        graph = helper.make_graph(nodes, "g", ends[:1], [])
    else:
        nodes = [helper.make_node("Add", ["wave", "w"], ["out"])]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file of four numbers outside of the folder `models`."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "secret.bin"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    return path


def test_weights_beside_an_onnx_file_are_read(outside: Path) -> None:
    folder = outside.parent / "models"
    (folder / "w.bin").write_bytes(outside.read_bytes())
    path = write_model(folder / "m.onnx", "w.bin")
    assert external_locations(path) == ["w.bin"]
    said = open_session(path, 1).run(["out"], {"wave": np.zeros((1, 4), np.float32)})[0]
    assert said.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("how", ["above", "absolute", "windows", "link", "folder link"])
def test_no_onnx_file_reaches_out_of_its_folder(outside: Path, how: str, nested: bool) -> None:
    folder = outside.parent / "models"
    (folder / "link.bin").symlink_to(outside)
    (folder / "up").symlink_to(outside.parent, target_is_directory=True)
    location = {
        "above": "../secret.bin",
        "absolute": str(outside),
        "windows": "..\\secret.bin",
        "link": "link.bin",
        "folder link": "up/secret.bin",
    }[how]
    path = write_model(folder / "m.onnx", location, nested=nested)
    assert external_locations(path) == [location]
    for opened in (lambda: open_session(path, 1), lambda: OpenVinoPredictor(path)):
        with pytest.raises(PredictError, match="outside of its folder"):
            opened()


def test_a_teacher_is_not_read_from_outside_and_is_known_by_its_weights(outside: Path) -> None:
    folder = outside.parent / "models"
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    said = {"classes": "models/labels.txt", "window_s": 0.004, "sample_rate_hz": 1000}
    entry = {"path": "models/m.onnx", **said}
    lab = Lab(outside.parent, LabFile.model_validate({"teachers": {"t": entry}}))
    write_model(folder / "m.onnx", "../secret.bin")
    with pytest.raises(PredictError, match="outside of its folder"):
        open_teacher(lab, "t")
    write_model(folder / "m.onnx", "w.bin")
    identities = set()
    for values in ([0, 1, 2, 3], [3, 2, 1, 0]):
        (folder / "w.bin").write_bytes(np.array(values, np.float32).tobytes())
        identities.add(open_teacher(lab, "t", threads=1).identity)
    assert len(identities) == 2


@pytest.mark.parametrize(
    "content", [b"", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x3a\x05\x0a", b"\xff" * 40]
)
def test_a_file_that_is_no_onnx_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(PredictError, match="no ONNX file"):
        check_external(path)


def test_graphs_within_graphs_end(tmp_path: Path) -> None:
    content = b""
    for key in [*(b"\x32", b"\x2a", b"\x0a") * 100, b"\x3a"]:  # graph in attribute in node in ...
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        content = key + length + bytes([size]) + content
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(PredictError, match="deep"):
        check_external(tmp_path / "m.onnx")


class _Harm:
    """What runs a command when a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def _hostile_weights(kind: str, folder: Path) -> Path:
    path = folder / ("w.pth" if kind.startswith("torch") else "w.safetensors")
    if kind == "torch code":
        torch.save({"w": _Harm(folder / "harmed")}, path)
    elif kind == "torch module":
        torch.save(torch.nn.Linear(2, 2), path)
    elif kind == "header of 2^60 bytes":
        path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    else:
        said = (
            b'{"w":{"dtype":"F32","shape":[1099511627776,4096],"data_offsets":[0,16]}}'
            if kind == "tensor of 16 PB"
            else b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[900,916]}}'
        )
        path.write_bytes(struct.pack("<Q", len(said)) + said + bytes(16))
    return path


@pytest.mark.parametrize(
    "kind",
    ["torch code", "torch module", "header of 2^60 bytes", "tensor of 16 PB", "offsets beyond"],
)
def test_hostile_weights_are_refused_and_run_nothing(tmp_path: Path, kind: str) -> None:
    path = _hostile_weights(kind, tmp_path)
    with pytest.raises(BirdlabError, match="weights"):
        load_backbone_weights(torch.nn.Linear(2, 2), path)
    assert not (tmp_path / "harmed").exists()


def test_what_steers_a_terminal_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with visible_output():
        print(f"a{ESCAPE}b\tc")
    out = capsys.readouterr().out
    assert out == "a\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnpb\tc\n"
    assert visible("Größe 鳥 \n\t") == "Größe 鳥 \n\t"


def test_an_error_of_a_command_steers_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["birdlab", "show", f"run{ESCAPE}"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert not set("\x1b\x07\x9b\u202e") & set(said.out + said.err)


def test_a_table_for_spreadsheets_holds_no_formula() -> None:
    table = pd.DataFrame({"=1+1": ["=cmd|' /C calc'!A0", "+1", "a"], "x": [-1.0, 2.0, 3.0]})
    lines = csv_text(table).splitlines()
    assert lines[0] == "'=1+1,x"
    assert lines[1:] == ["'=cmd|' /C calc'!A0,-1.0", "'+1,2.0", "a,3.0"]


def test_the_mlflow_ui_answers_to_names_of_this_machine_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert allowed_hosts("127.0.0.1", 5001) == [
        *("127.0.0.1", "127.0.0.1:5001", "localhost", "localhost:5001", "[::1]", "[::1]:5001")
    ]
    everywhere = allowed_hosts("0.0.0.0", 5001)
    assert not any("*" in host for host in everywhere)
    warn_of_host("127.0.0.1")
    assert capsys.readouterr().err == ""
    warn_of_host("0.0.0.0")
    assert "no password" in capsys.readouterr().err


def test_pages_load_and_send_nothing() -> None:
    page = SitePage("a.html", "a", "b")
    for text in (page_html("t", []), site_page_html(page, "", [page]), site_index_html([page])):
        assert text.count(POLICY) == 1 and text.index(POLICY) < text.index("<style>")


def test_a_base_is_read_as_yaml_and_nothing_else(tmp_path: Path) -> None:
    from birdlab.spec import load_spec

    (tmp_path / "x.yaml").write_text("base: /etc/passwd\n")
    with pytest.raises(SpecError) as raised:
        load_spec(tmp_path / "x.yaml")
    assert "root:" not in str(raised.value)


def test_onnx_saves_what_the_walker_finds(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(400, np.float32), "w")
    entry = helper.make_tensor_value_info("wave", TensorProto.FLOAT, [400])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [400])
    graph = helper.make_graph(
        [helper.make_node("Add", ["wave", "w"], ["out"])], "g", [entry], [out], [weight]
    )
    onnx.save(
        helper.make_model(graph),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.onnx.data",
        size_threshold=0,
    )
    assert external_locations(tmp_path / "m.onnx") == ["m.onnx.data"]
