import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from serving.engine.stepping import initial_states
from serving.fingerprint import fingerprint
from serving.graph_check import check
from serving.graph_operators import OPERATORS
from serving.manifest import MAX_NOTES, MAX_STATES
from serving.repository import load_version
from tests.conftest import COMMITTED
from trainer.data.dataset import DataConfig
from trainer.data.split import Shares
from trainer.errors import ExportRefused
from trainer.export.card import code
from trainer.export.export import export
from trainer.export.parity import Difference
from trainer.models import MODELS
from trainer.models.base import States
from trainer.models.lstm import LSTM
from trainer.run import Run
from trainer.train import new_run, train


@pytest.mark.parametrize("name", MODELS)
def test_the_file_is_what_the_contract_says(repository: Path, name: str) -> None:
    """Read as a program would that knows the contract alone."""
    model = onnx.load(repository / name / "1" / "model.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    manifest = json.loads(properties["makemore.manifest"])
    size = len(manifest["alphabet"]) + 1
    shapes = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes.pop("token") == (onnx.TensorProto.INT64, ["batch"])
    assert shapes.pop("logits") == (onnx.TensorProto.FLOAT, ["batch", size])
    for state in manifest["states"]:
        wanted = (
            onnx.TensorProto.DataType.Value(_ELEMENTS[state["dtype"]]),
            ["batch", *state["shape"]],
        )
        assert shapes.pop(state["input"]) == shapes.pop(state["output"]) == wanted
    assert shapes == {}
    assert manifest["format_version"] == 1
    assert manifest["name"] == manifest["architecture"] == name
    assert manifest["operator_sets"] == {o.domain: o.version for o in model.opset_import}
    assert set(manifest["metrics"]) == {"train", "dev", "test", "baselines"}
    assert set(manifest["metrics"]["baselines"]) == {"uniform", "unigram", "bigram"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)


_ELEMENTS = {"float32": "FLOAT", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


@pytest.mark.parametrize("name", ["transformer", "transformer-modern"])
def test_a_graph_of_standard_operators_passes_the_gate_too(
    tmp_path: Path, repository: Path, runs: dict[str, Run], name: str
) -> None:
    folder, manifest = export(runs[name], name, tmp_path, "standard")
    fused, standard = (onnx.load(path / "model.onnx") for path in (repository / name / "1", folder))
    assert any(node.domain for node in fused.graph.node)
    assert not any(node.domain for node in standard.graph.node)
    assert not any(state.in_place for state in manifest.states)
    assert check((folder / "model.onnx").read_bytes()) == manifest


@pytest.mark.parametrize("model", [*MODELS, "committed"])
def test_rows_are_the_same_bits_at_any_batch_size_from_two_up(repository: Path, model: str) -> None:
    """A row's logits and states, whichever its neighbours, its place and how many there are."""
    folder = COMMITTED / "names" / "2" if model == "committed" else repository / model / "1"
    session = load_version(folder).session
    chance = np.random.default_rng(0)
    tokens = chance.integers(0, len(session.manifest.vocabulary), (6, 257))

    def run(columns: "np.ndarray[Any, np.dtype[np.int64]]") -> list[bytes]:
        states = initial_states(session.manifest.states, len(columns))
        for row in tokens:
            logits, states = session.step(row[columns], states)
        return [
            b"".join(array[i].tobytes() for array in (logits, *states)) for i in range(len(columns))
        ]

    everything = run(np.arange(257))
    for size in (2, 3, 5, 7, 8, 16, 31, 64, 100, 200, 256):
        columns = chance.permutation(257)[:size]
        assert run(columns) == [everything[column] for column in columns], size


@pytest.mark.parametrize("name", MODELS)
def test_sums_and_known_strings_are_those_of_the_files(
    repository: Path, runs: dict[str, Run], name: str
) -> None:
    folder = repository / name / "1"
    files = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, _, file = line.partition("  ")
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
        files[file] = digest
    assert sorted(files) == ["README.md", "known.u64", "model.onnx"]
    known = np.fromfile(folder / "known.u64", "<u8").tolist()
    assert known == sorted({fingerprint(s) for s in runs[name].dataset().parts["train"]})


def test_batch_normalisation_is_folded_into_the_layer_before_it(repository: Path) -> None:
    graph = onnx.load(repository / "mlp" / "1" / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds
    assert not {"Sqrt", "Div", "Sub"} & set(kinds)


def test_the_card_tells_name_quality_and_source(repository: Path) -> None:
    card = (repository / "lstm" / "1" / "README.md").read_text()
    manifest = load_version(repository / "lstm" / "1").manifest
    assert card.startswith("# lstm, version 1\n")
    assert f"{manifest.metrics['dev']['nll']:.4f}" in card
    assert manifest.dataset["sha256"] in card


def test_the_file_tells_nothing_of_the_machine(repository: Path) -> None:
    content = (repository / "lstm" / "1" / "model.onnx").read_bytes()
    for trace in (str(Path.cwd()), str(repository), "site-packages"):
        assert trace.encode() not in content


def forgetful(step: Any) -> Any:
    """A step that drops what the first layer remembers."""

    def broken(self: LSTM, token: Tensor, states: States) -> tuple[Tensor, States]:
        logits, after = step(self, token, states)
        return logits, (torch.zeros_like(after[0]), *after[1:])

    return broken


def leaking(step: Any) -> Any:
    """A step in which a row's logits depend a little on its neighbours."""

    def broken(self: LSTM, token: Tensor, states: States) -> tuple[Tensor, States]:
        logits, after = step(self, token, states)
        return logits + 0.01 * logits.mean(dim=0), after

    return broken


def not_a_number(step: Any) -> Any:
    """A step that divides by nothing."""

    def broken(self: LSTM, token: Tensor, states: States) -> tuple[Tensor, States]:
        logits, after = step(self, token, states)
        return logits / (logits - logits), after

    return broken


@pytest.mark.parametrize("broken", [forgetful, leaking, not_a_number])
def test_the_gate_refuses_an_architecture_broken_on_purpose(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    monkeypatch.setattr(LSTM, "step", broken(LSTM.step))
    with pytest.raises(ExportRefused, match="differs from the model by"):
        export(runs["lstm"], "broken", tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_graph_that_a_server_would_refuse_is_not_published(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = {"": OPERATORS[""] - {"Sigmoid"}}
    monkeypatch.setattr("serving.graph_operators.OPERATORS", fewer)
    with pytest.raises(ExportRefused, match=r"a server would refuse the model: node .*'Sigmoid'"):
        export(runs["lstm"], "broken", tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_the_gate_refuses_a_graph_that_differs_from_its_model(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the traced graph is wrong, as by a faulty exporter; PyTorch agrees with itself."""
    from trainer.export import graph

    trace = graph.trace

    def faulty(model: Any) -> onnx.ModelProto:
        made = trace(model)
        bias = next(t for t in made.graph.initializer if t.name.endswith("head.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.eye(1, 27, 3, dtype=np.float32)[0] * 0.001
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), bias.name))
        return made

    monkeypatch.setattr(graph, "trace", faulty)
    with pytest.raises(ExportRefused, match="onnx_step at batch size 1"):
        export(runs["lstm"], "broken", tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_the_gate_refuses_a_graph_that_is_wrong_for_a_single_row_alone(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server never steps a single row, but other readers of the file may."""
    from trainer.export import graph

    trace = graph.trace

    def faulty(model: Any) -> onnx.ModelProto:
        made = trace(model)
        (logits,) = (node for node in made.graph.node if "logits" in node.output)
        logits.output[list(logits.output).index("logits")] = "right"
        one = onnx.numpy_helper.from_array(np.array([1], np.int64), "one")
        made.graph.initializer.append(one)
        make = onnx.helper.make_node
        made.graph.node.extend(
            [
                make("Shape", ["token"], ["rows"]),
                make("Equal", ["rows", "one"], ["single"]),
                make("Cast", ["single"], ["shift"], to=onnx.TensorProto.FLOAT),
                make("Mul", ["right", "shift"], ["wrong"]),
                make("Add", ["right", "wrong"], ["logits"]),
            ]
        )
        return made

    monkeypatch.setattr(graph, "trace", faulty)
    with pytest.raises(ExportRefused, match="onnx_step at batch size 1 "):
        export(runs["lstm"], "broken", tmp_path)


def test_a_part_without_strings_has_no_metrics(tmp_path: Path, names: Path) -> None:
    data = DataConfig(names, Shares(90, 10, 0))
    run, dataset = new_run(tmp_path / "run", "bigram", data, {}, {})
    assert train(run, dataset, resume=False, is_terminal=False)
    folder, manifest = export(run, "m", tmp_path)
    assert set(manifest.metrics) == {"train", "dev", "baselines"}
    assert "| - |" in (folder / "README.md").read_text()


def test_a_difference_that_is_not_a_number_is_not_acceptable() -> None:
    for one, other in (
        (Difference(), Difference(np.nan, np.nan)),
        (Difference(np.nan, np.nan), Difference()),
    ):
        assert not (one | other).is_acceptable


def test_the_same_run_exports_the_same_bytes(tmp_path: Path, runs: dict[str, Run]) -> None:
    once, _ = export(runs["lstm"], "m", tmp_path)
    again, _ = export(runs["lstm"], "m", tmp_path)
    assert (once / "model.onnx").read_bytes() == (again / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("ab|c", "`ab|c`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        (" a", "`  a `"),
        ("a\nb\u202e", "`a\\nb\\u202e`"),
    ],
)
def test_data_in_a_card_is_no_markdown(text: str, span: str) -> None:
    assert code(text) == span


@pytest.mark.parametrize(
    ("changed", "value", "reason"),
    [
        ("FUNCTION", "x" * 2**17, "manifest: extra: has more than 65,536 characters"),
        ("MAX_SIZES", {"model.onnx": 2**30, "known.u64": 64}, "known.u64 has .* at most 64 are"),
    ],
)
def test_what_a_server_would_find_too_large_is_not_published(
    runs: dict[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    value: Any,
    reason: str,
) -> None:
    monkeypatch.setattr(f"trainer.export.export.{changed}", value)
    with pytest.raises(ExportRefused, match=f"a server would refuse the model: {reason}"):
        export(runs["bigram"], "bigram", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_manifest_comes_near_its_bounds(repository: Path) -> None:
    for name in MODELS:
        manifest = load_version(repository / name / "1").manifest
        notes = (manifest.training, manifest.dataset, manifest.metrics, manifest.parity)
        assert max(len(json.dumps(note)) for note in notes) < MAX_NOTES / 10
        assert len(manifest.states) < MAX_STATES / 10
