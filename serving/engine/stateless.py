"""A model without states goes by the last token alone: all that it ever says is computed once.

V is the number of tokens.
"""

import numpy as np

from serving.engine.contexts import Shared
from serving.engine.rows import Records
from serving.engine.sampling import Bool, Int64
from serving.engine.stepping import StepSession
from serving.engine.walking import Known, Relief, Walked, Walker, Ways, known_of
from serving.manifest import Manifest
from serving.vocabulary import BOUNDARY

MOST = 2**19
"""Pairs of tokens at most, of 16 bytes each; a model of more characters is like any other."""


def is_stateless(manifest: Manifest) -> bool:
    """Whether a model's logits after every token may be kept."""
    return not manifest.states and len(manifest.vocabulary) ** 2 <= MOST


class Stateless(Shared):
    """Contexts that are tokens: a place is the one that was seen last; see Contexts.

    Args:
        session: computes all of them now, and nothing later.
    """

    root = BOUNDARY

    def __init__(self, session: StepSession) -> None:
        every = np.arange(len(session.manifest.vocabulary))
        logits, _ = session.step(every, ())  # [V, V]
        self._known = known_of(logits)
        leads = np.tile(
            every.astype(np.int32), (len(every), 1)
        )  # [V, V]: a token leads to its own place
        self._ways = Ways(leads, np.zeros(len(every), np.int64))
        self.walker = Walker(session.manifest.max_length)

    def known(self) -> Known:
        """See Contexts."""
        return self._known

    def walk(self, live: Records, relief: Relief | None = None) -> Walked:
        """See Contexts."""
        return self.walker.walk(live, self._known, self._ways, 0, relief)

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """See Contexts."""
        return tokens.copy(), np.ones(len(tokens), np.bool_)
