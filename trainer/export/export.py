"""The way from a run to `<repository>/<name>/<version>/`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx

from serving.catalogue import check_name
from serving.engine.session import OrtSession
from serving.errors import BadModel
from serving.fingerprint import FUNCTION, fingerprints
from serving.graph_check import check
from serving.manifest import Manifest
from serving.sums import KNOWN, MAX_SIZES, MODEL
from trainer.config import versions
from trainer.data.batches import Part
from trainer.errors import ExportRefused
from trainer.evaluate import baselines, evaluate
from trainer.export import graph
from trainer.export.card import model_card
from trainer.export.held_out import held_out
from trainer.export.parity import BATCH_SIZES, check_parity
from trainer.export.publish import Taken, next_version, publish
from trainer.export.superseded import Superseded
from trainer.models.base import FUSED, CharModel
from trainer.run import Run
from trainer.torch_session import TorchSession, bare_manifest
from trainer.train import tensors

RECOMMENDED = {"temperature": 1.0, "top_k": 0}


def export(
    run: Run,
    name: str,
    repository: Path,
    operators: str = FUSED,
    replace_better: bool = False,
) -> tuple[Path, Manifest]:
    """Trace, check and publish the best weights of a run; where, and what the manifest says.

    Args:
        run: trained.
        name: of the model.
        repository: the folder of models.
        operators: what the graph is made of, see CharModel.
        replace_better: publish even if the version that is superseded has a lower dev NLL.

    Raises:
        ExportRefused: the graph does not match the model, a server would refuse it, or it would
            supersede a better version; nothing is published.
        InvalidArgument: the name cannot be a model's.
        RunError: the run cannot be read, or the version not be written.
    """
    check_name(name)
    dataset = run.dataset()
    model = run.load_model()
    model.operators = operators
    parts = tensors(dataset, run.config)
    traced = graph.trace(model.for_export())
    bare = bare_manifest(run.config, model, name)
    parity = gate(model, traced, bare, parts["dev"])
    with refusing():
        manifest = Manifest(
            name=name,
            architecture=run.config.architecture,
            alphabet=run.config.alphabet,
            max_length=run.config.max_length,
            states=model.state_specs(),
            operator_sets={entry.domain: entry.version for entry in traced.opset_import},
            metrics=metrics(model, parts, len(run.config.vocabulary)),
            parity=parity,
            training=training(run, model),
            dataset=dataset.about,
            recommended=RECOMMENDED,
            held_out=held_out(model, parts),
            extra={"fingerprint": FUNCTION},
        )
        contents = {
            MODEL: graph.with_manifest(traced, manifest),
            KNOWN: fingerprints(dataset.parts["train"]).tobytes(),
        }
        check_contents(contents)
    while True:  # another export may take the same version first
        folder = repository / name / str(version := next_version(repository / name))
        if not replace_better and (superseded := Superseded.before(folder)):
            superseded.refuse_if_better(manifest)
        card = {"README.md": model_card(manifest, version).encode()}
        with suppress(Taken):
            publish(folder, contents | card)
            return folder, manifest


@contextmanager
def refusing() -> Iterator[None]:
    """Raise ExportRefused for what a server would refuse."""
    try:
        yield
    except BadModel as error:
        raise ExportRefused(f"a server would refuse the model: {error}") from None


def check_contents(contents: Mapping[str, bytes]) -> None:
    """Raise BadModel for a graph that a server would refuse, or a file that is too large for one."""
    check(contents[MODEL])
    for name, content in contents.items():
        if len(content) > (most := MAX_SIZES[name]):
            raise BadModel(f"{name} has {len(content):,} bytes; at most {most:,} are taken")


def gate(
    model: CharModel, traced: onnx.ModelProto, manifest: Manifest, dev: Part
) -> dict[str, Any]:
    """Check PyTorch's and onnxruntime's steps against PyTorch's forward; the `parity` object."""
    # Other readers of the file may step a single row, so it is checked as it is.
    served = OrtSession(graph.with_manifest(traced, manifest), min_rows=1)
    return check_parity(
        model,
        {
            "torch_step": (TorchSession(model, manifest), (BATCH_SIZES[-1],)),
            "onnx_step": (served, BATCH_SIZES),
        },
        dev,
    )


def metrics(model: CharModel, parts: dict[str, Part], size: int) -> dict[str, Any]:
    """The `metrics` object: exact scores of every part that has strings, and of the baselines."""
    parts = {name: part for name, part in parts.items() if len(part)}
    simple = baselines(parts["train"], parts, size)
    return {
        **{name: evaluate(model, part).to_dict() for name, part in parts.items()},
        "baselines": {
            guess: {name: score.to_dict() for name, score in scores.items()}
            for guess, scores in simple.items()
        },
    }


def training(run: Run, model: CharModel) -> dict[str, Any]:
    """The `training` object: configuration, steps, time, versions."""
    progress = run.progress()
    config = run.config.to_dict()
    return {
        "model": config["model"],
        "config": config["training"],
        "seed": run.config.training.seed,
        "parameters": model.num_parameters(),
        "steps_taken": progress.steps,
        "best_step": progress.best_step,
        "seconds": round(progress.seconds, 3),
        "versions": dict(run.config.versions),
        "export_versions": versions() | {"onnx": onnx.__version__},
    }
