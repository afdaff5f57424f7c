"""Drawing without replacement: how much of each prefix's probability is still to be had.

Shi, Bieber and Singh, "Incremental sampling without replacement for sequence models" (2020). Shares are
added up from what is left below, never subtracted from what was there, so that no rounding can leave a
rest where there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.engine.sampling import Float64
from serving.vocabulary import BOUNDARY


@dataclass
class Node:
    """A prefix: `share` [V] is how its mass is divided, `left` [V] how much of each part remains."""

    share: Float64
    left: Float64
    children: "dict[int, Node]" = field(default_factory=dict)


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.children.values()))


class Remaining:
    """The prefixes that were visited, from a job's own prefix on; `size` says how many."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.size = 0

    def visit(self, path: Sequence[int], weights: Float64) -> Float64:
        """What is left of each token's mass after a path, [V]; its shares are noted on the first visit.

        Args:
            path: token ids after the job's prefix; all but the last were visited before.
            weights: what tokens are drawn in proportion to after it, [V].
        """
        node = self._find(path)
        if node is None:
            node = Node(weights / weights.sum(), np.ones(len(weights)))
            parent = self._find(path[:-1]) if path else None
            if parent is not None and parent.left[path[-1]] > 0:
                parent.children[path[-1]] = node
            elif path:  # all that begins so is gone
                return np.zeros(len(weights))
            else:
                self.root = node
            self.size += 1
        return node.left

    def take(self, path: Sequence[int], *, ended: bool, cut: bool) -> None:
        """Take a string away: its end, or its being cut at the longest length, or both.

        Args:
            path: token ids after the job's prefix, all of them visited.
            ended: its ending after the path is taken.
            cut: its going on after the path is taken.
        """
        last = self._find(path)
        if last is None:  # never visited: it has no mass
            return
        if cut:
            last.left[BOUNDARY + 1 :] = 0
        if ended:
            last.left[BOUNDARY] = 0
        self._update(path)

    def take_branch(self, path: Sequence[int]) -> None:
        """Take all strings away that begin with a path; all but its last token were visited."""
        parent = self._find(path[:-1])
        if parent is not None:
            parent.left[path[-1]] = 0
            if path[-1] in parent.children:
                self.size -= _size(parent.children.pop(path[-1]))
            self._update(path[:-1])

    def _update(self, path: Sequence[int]) -> None:
        """Add up what is left, from the end of a path towards the root."""
        nodes = [self.root]
        for token in path:
            nodes.append(nodes[-1].children[token] if nodes[-1] else None)
        for parent, token, child in reversed(list(zip(nodes, path, nodes[1:], strict=False))):
            assert parent is not None
            assert child is not None
            parent.left[token] = left = (child.share * child.left).sum()
            if left == 0:  # nobody comes by there any more
                self.size -= _size(parent.children.pop(token))

    def _find(self, path: Sequence[int]) -> Node | None:
        node = self.root
        for token in path:
            if node is None:
                return None
            node = node.children.get(token)
        return node
