"""What people would use instead of our engine: CTranslate2, PyTorch's plain loop, the runtime alone."""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from serving.engine.stepping import StepSession, initial_states
from trainer.compare import step_speed
from trainer.models.transformer import Transformer

START = "<start>"


Work = Callable[[], int]
"""Makes something, and tells how many characters it was."""

TURN = 0.3
"""Seconds that each works at a time at least: in less, it would only bring back what it has in the caches."""


def rates(*works: Work, repeats: int = 7) -> list[float]:
    """Characters a second of each: by turns, since a shared machine is slower now and then; medians."""
    found = []
    for _ in range(1 + repeats):  # the first of all to warm up
        found.append([_rate(work) for work in works])
    medians: list[float] = np.median(found[1:], axis=0).tolist()
    return medians


def _rate(work: Work) -> float:
    made, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < TURN:
        made += work()
    return made / seconds


def bare(session: StepSession, rows: int) -> Work:
    """Steps of so many rows, and nothing else."""
    token, longest = np.ones(rows, np.int64), session.manifest.max_length

    def work() -> int:
        states = initial_states(session.manifest.states, rows)
        for _ in range(longest):
            _, states = session.step(token, states)
        return rows * longest

    return work


def best_bare(session: StepSession) -> Work:
    """Bare steps at their best number of rows."""
    return bare(session, max((32, 64, 128, 256), key=lambda rows: step_speed(session, rows)))


def torch_loop(model: Transformer, rows: int) -> Work:
    """Makemore's own loop: the whole text so far through the model for every character, no cache."""

    @torch.inference_mode()
    def work() -> int:
        tokens = torch.zeros(rows, 1, dtype=torch.int64)
        for _ in range(model.length):
            probabilities = model(tokens)[:, -1].softmax(dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1)], dim=1)
        texts = tokens[:, 1:]
        ends = (texts == 0).int().argmax(dim=1) + 1  # characters up to the end
        has_end = (texts == 0).any(dim=1)
        return int(torch.where(has_end, ends, texts.shape[1]).sum())

    return work


def ctranslate2(model: Transformer, alphabet: str) -> Callable[[int, int], Work]:
    """CTranslate2 with the same weights, one thread: of rows at once and strings."""
    import ctranslate2 as ct

    spec = ct.specs.TransformerDecoderModelSpec.from_config(
        model.config.layers,
        model.config.heads,
        pre_norm=True,
        activation=ct.specs.common_spec.Activation.GELUTanh,
    )
    _fill(spec.decoder, model)
    spec.register_vocabulary([START, *alphabet])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = START
    with tempfile.TemporaryDirectory() as folder:
        spec.validate()
        spec.save(folder)
        generator = ct.Generator(folder, device="cpu", compute_type="float32", intra_threads=1)

    def works(rows: int, strings: int) -> Work:
        def work() -> int:
            made = 0
            for _ in range(max(strings // rows, 1)):
                results = generator.generate_batch(
                    [[START]] * rows,
                    max_length=model.length,
                    sampling_topk=0,
                    include_prompt_in_result=False,
                    end_token=START,
                )
                made += sum(
                    min(len(result.sequences_ids[0]) + 1, model.length) for result in results
                )
            return made

        return work

    return works


def _fill(decoder: Any, model: Transformer) -> None:
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def norm(spec: Any, name: str) -> None:
        spec.gamma, spec.beta = state[f"{name}.weight"], state[f"{name}.bias"]

    def linear(spec: Any, name: str) -> None:
        spec.weight = state[f"{name}.weight"]
        if f"{name}.bias" in state:
            spec.bias = state[f"{name}.bias"]

    decoder.scale_embeddings = False
    decoder.embeddings.weight = state["embedding.weight"]
    decoder.position_encodings.encodings = state["positions.weight"]
    norm(decoder.layer_norm, "norm")
    linear(decoder.projection, "head")
    for place, layer in enumerate(decoder.layer):
        block = f"blocks.{place}"
        norm(layer.self_attention.layer_norm, f"{block}.before_attention")
        linear(layer.self_attention.linear[0], f"{block}.attention.qkv")
        linear(layer.self_attention.linear[1], f"{block}.attention.out")
        norm(layer.ffn.layer_norm, f"{block}.before_feed_forward")
        linear(layer.ffn.linear_0, f"{block}.feed_forward.enter")
        linear(layer.ffn.linear_1, f"{block}.feed_forward.leave")
