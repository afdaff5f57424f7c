"""`makemore gradients`."""

from dataclasses import replace

import click
import torch

from serving.vocabulary import Vocabulary
from trainer import backprop
from trainer.data.batches import Batches, Part
from trainer.data.dataset import DataConfig, load
from trainer.models.mlp import MLP, MLPConfig

APPROXIMATE = 1e-5


@click.command("gradients")
@click.option("--batch-size", default=32, show_default=True, help="Strings in the batch.")
@click.option("--seed", default=1, show_default=True, help="Of weights and batch.")
@click.option("--double", is_flag=True, help="Compute in float64 instead of float32.")
def command(batch_size: int, seed: int, double: bool) -> None:
    """Backpropagate through the MLP by hand, and compare every gradient with autograd's.

    A row a tensor, from the loss backwards: whether the two are equal to the bit, whether they are within
    0.00001, and the largest difference. The last rows are the fused forms.
    """
    differences = compare(batch_size, seed, torch.float64 if double else torch.float32)
    click.echo(f"{'gradient of':<30}{'shape':<16}{'exact':<8}{'approximate':<13}largest difference")
    for name, ours, theirs in differences:
        largest = float((ours - theirs).abs().max())
        exact, near = torch.equal(ours, theirs), largest < APPROXIMATE
        shape = "x".join(map(str, theirs.shape))
        click.echo(f"{name:<30}{shape:<16}{exact!s:<8}{near!s:<13}{largest:.2e}")
    if any(float((ours - theirs).abs().max()) >= APPROXIMATE for _, ours, theirs in differences):
        raise click.ClickException("a gradient is not what autograd finds")


def compare(
    batch_size: int, seed: int, dtype: torch.dtype
) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """For every tensor its name, its gradient by hand and its gradient by autograd."""
    dataset = load(DataConfig())
    vocabulary: Vocabulary = dataset.vocabulary
    torch.manual_seed(seed)
    model = MLP(MLPConfig(dropout=0.0, hidden=64, embedding=10), len(vocabulary), 7).to(dtype)
    with torch.no_grad():  # away from the first weights, whose head is so small that all is near 0
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = Batches(Part(dataset.parts["train"], vocabulary), batch_size, seed)[0]
    windows, real = model.windows(batch[0])
    targets = batch[1][real]
    p = backprop.parameters_of(model)
    t = backprop.forward(p, windows, targets)
    for tensor in t.values():
        tensor.retain_grad()
    t["loss"].backward()
    with torch.no_grad():
        still = replace(p, **{name: getattr(p, name).detach() for name in backprop.LEARNED})
        values = {name: tensor.detach() for name, tensor in t.items()}
        by_hand = backprop.backward(still, windows, targets, values)
        fused = {
            "logits, softmax fused": (
                backprop.fused_cross_entropy(values, targets),
                t["logits"].grad,
            ),
            "hprebn, batch norm fused": (
                backprop.fused_batch_norm(still, values, by_hand["hpreact"]),
                t["hprebn"].grad,
            ),
        }
    rows = [
        (name, g, t[name].grad if name in t else getattr(p, name).grad)
        for name, g in by_hand.items()
    ]
    rows += [(name, ours, theirs) for name, (ours, theirs) in fused.items()]
    return [(name, ours, theirs) for name, ours, theirs in rows if theirs is not None]
