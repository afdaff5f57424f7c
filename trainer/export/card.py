"""The model card: a published version's README.md, written from its manifest alone."""

import re
from typing import Any

from serving.manifest import Manifest
from serving.quoting import shown
from trainer.evaluate import labelled

PARTS = ("train", "dev", "test")


def model_card(manifest: Manifest, version: int) -> str:
    """Markdown that tells what the model is, how good it is and how to use it."""
    data, training = manifest.dataset, manifest.training
    shares = data["split"].get("shares") or "by files"
    return f"""# {manifest.name}, version {version}

A character-level language model of the architecture `{manifest.architecture}` with
{training["parameters"]:,} parameters. It makes strings like those of its data, and scores strings.

## Use

    makemore serve --repository exported_models
    makemore generate --model {manifest.name}@{version} --prefix "" -n 10

Alphabet ({len(manifest.alphabet)} characters): {code("".join(manifest.alphabet))}

Longest string: {manifest.max_length} characters. Any program that keeps the step-graph contract, format
version {manifest.format_version}, can run `model.onnx`; its manifest is inside the file.

## Quality

Negative log-likelihood in nats per predicted character, ends of strings included; less is better.

{_metrics_table(manifest)}

## Data

{code(data["name"])}: {data["lines"]:,} lines, {data["distinct"]:,} distinct; split {shares}.
Source: {data["source"]}. SHA-256 of the file: `{data["sha256"]}`.

`known.u64` holds 64-bit fingerprints of the training strings ({manifest.extra["fingerprint"]}), not the
strings themselves.

## Training

Best of {training["steps_taken"]:,} steps, taken at step {training["best_step"]:,}, in
{training["seconds"]:,.0f} s; seed {training["config"]["seed"]}. Made with
{_listed(training["versions"])}.

## How closely the graph matches the model

Over {manifest.parity["strings"]:,} strings at batch sizes {_numbers(manifest.parity["batch_sizes"])}:
largest difference {manifest.parity["max_abs_logit"]:.2g} in a logit,
{manifest.parity["max_abs_log_probability"]:.2g} in a log-probability
(at most {manifest.parity["tolerance"]:g} is let through).
"""


def code(text: str) -> str:
    """Data as a code span, in which Markdown has no meaning: its fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    fence = "`" * (longest + 1)
    return f"{fence}{pad}{shown(text)}{pad}{fence}"


def _metrics_table(manifest: Manifest) -> str:
    lines = ["| | train | dev | test |", "|---|---|---|---|"]
    metrics = manifest.metrics
    for label, scores in labelled(manifest.architecture, metrics, metrics["baselines"]):
        lines.append(f"| {label} | {' | '.join(_figure(scores.get(part)) for part in PARTS)} |")
    return "\n".join(lines)


def _figure(score: Any) -> str:
    return f"{score['nll']:.4f}" if score else "-"


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values))


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
