"""TensorBoard beside what else a person sees; needs the extra `tensorboard`."""

from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.errors import RunError
from trainer.files import naming_failures
from trainer.models.base import CharModel
from trainer.reporter import PlainReporter

EVERY = 20


class TensorBoardReporter:
    """Passes on what it is told, and writes the figures to a folder that TensorBoard reads.

    Raises:
        RunError: the package is not installed, or the folder cannot be written.
    """

    def __init__(self, inner: PlainReporter, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise RunError(
                "--tensorboard needs the package tensorboard: pip install 'makemore[tensorboard]'"
            ) from None
        self.inner = inner
        self.folder = folder
        with naming_failures(folder):
            self.writer: Any = SummaryWriter(str(folder))

    def stepped(self, step: int, loss: Tensor, characters: int) -> None:
        """See Reporter."""
        if step % EVERY == 0:
            self.writer.add_scalar("loss/train", float(loss), step)
        self.inner.stepped(step, loss, characters)

    def evaluated(self, row: dict[str, Any], model: CharModel) -> None:
        """See Reporter."""
        self.writer.add_scalar("loss/dev", row["dev_nll"], row["step"])
        self.writer.add_scalar("learning_rate", row["learning_rate"], row["step"])
        for name, parameter in model.named_parameters():
            self.writer.add_histogram(name, parameter.detach().cpu(), row["step"])
        self.inner.evaluated(row, model)

    def say(self, text: str) -> None:
        """Pass it on."""
        self.inner.say(text)

    def close(self) -> None:
        """Write what is left; what cannot be written does not fail the training."""
        try:
            self.writer.close()
        except OSError as error:
            self.say(f"warning: cannot write {self.folder}: {error.strerror}")
        self.inner.close()
