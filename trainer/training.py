"""A model being trained: one batch, one update, and all that the next one depends on."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.backprop import gradients_by_hand
from trainer.config import TrainingConfig
from trainer.data.batches import IGNORED
from trainer.models.base import CharModel
from trainer.optimizers import Optimizer
from trainer.schedule import learning_rate
from trainer.workers import Workers


class Training:
    """A model, its optimiser, the average of its weights, and how far it has come."""

    def __init__(
        self, model: CharModel, config: TrainingConfig, workers: Workers | None = None
    ) -> None:
        self.config = config
        self.workers = workers or Workers()
        self.model = model.to(config.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = Optimizer(
            self.model, config.optimizer, config.learning_rate, config.weight_decay, config.beta2
        )
        self.step = 0
        self.best_nll = math.inf
        self.best_step = 0
        self.stale = 0
        self.seconds = 0.0

    @property
    def is_finished(self) -> bool:
        """All steps were taken, or the dev NLL has not improved for too long; or all was counted."""
        if self.model.counted:
            return self.best_nll < math.inf
        patience = self.config.patience
        return self.step >= self.config.steps or (patience > 0 and self.stale >= patience)

    @property
    def is_evaluation_due(self) -> bool:
        """After every so many steps, and after the last."""
        return self.step % self.config.evaluate_every == 0 or self.step == self.config.steps

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        c = self.config
        return learning_rate(self.step, c.steps, c.warmup, c.learning_rate, c.schedule)

    def update(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """One step on a batch, [B, T] each; returns its mean loss.

        Dropout depends on the seed and the step alone, so that a resumed run needs no generator's state.
        """
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 4099 + self.workers.rank)
        self.optimizer.rate = self.rate
        self.optimizer.zero_grad()
        loss = self._gradients(tokens, targets)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip, foreach=True)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss

    def _gradients(self, tokens: Tensor, targets: Tensor) -> Tensor:
        if self.config.backward == "manual":
            return gradients_by_hand(self.model, tokens, targets)
        characters = (targets != IGNORED).sum()
        tokens, targets = self.workers.share(tokens, targets)
        with torch.autocast(self.config.device, torch.bfloat16, enabled=self.config.is_mixed):
            logits = self.model(tokens)  # [B, T, V]
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )  # [B*T, V] against [B*T]
        loss = losses / characters
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.workers.summed([*gradients, mean := loss.detach()[None]])
        return mean[0]

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average forgets faster, lest the first weights weigh on it.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        if self.config.average == 0:
            decay = 0.0
        ours: list[Tensor] = list(self.averaged.parameters())
        theirs: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for buffer, source in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            if buffer.is_floating_point():  # running statistics, which go with the weights
                buffer.lerp_(source, 1 - decay)

    def judge(self, nll: float) -> bool:
        """Note a dev NLL; whether it is the best so far."""
        if nll < self.best_nll:
            self.best_nll, self.best_step, self.stale = nll, self.step, 0
            return True
        self.stale += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        scalars = {name: getattr(self, name) for name in _SCALARS}
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **scalars,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name in ("model", "averaged", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name in _SCALARS:
            setattr(self, name, state[name])


_SCALARS = ("step", "best_nll", "best_step", "stale", "seconds")
