"""Texts that have none of many substrings in them, as an automaton.

Aho and Corasick, "Efficient string matching: an aid to bibliographic search" (1975).
"""

from collections import deque
from collections.abc import ItemsView, Iterable, Sequence

from serving.constraints.pattern import TooComplex


class Forbidden:
    """An automaton over an alphabet that dies at the end of any of the substrings.

    A state is one more than the number of a node of the trie of all substrings; 0 is death.

    Args:
        substrings: those with a character outside the alphabet are never met.
        alphabet: of the texts.
        most: nodes that the trie may have; None for any number.

    Raises:
        TooComplex: the trie has more.
    """

    start = 1

    def __init__(
        self, substrings: Iterable[str], alphabet: Sequence[str], most: int | None = None
    ) -> None:
        place = {character: i for i, character in enumerate(alphabet)}
        self._next: list[dict[int, int]] = [{}]
        self._fallback = [0]
        self._is_dead = [False]
        for substring in substrings:
            if all(character in place for character in substring):
                self._add([place[character] for character in substring])
                if most is not None and len(self._next) > most:
                    raise TooComplex("", f"needs more than {most:,} states")
        self._used = {character for node in self._next for character in node}
        self._link()

    def _add(self, characters: list[int]) -> None:
        node = 0
        for character in characters:
            if character not in self._next[node]:
                self._next[node][character] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self._is_dead.append(False)
            node = self._next[node][character]
        self._is_dead[node] = True

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            self._is_dead[node] |= self._is_dead[self._fallback[node]]
            for character, child in self._next[node].items():
                self._fallback[child] = self._node_after(self._fallback[node], character)
                queue.append(child)

    def _node_after(self, node: int, character: int) -> int:
        while node and character not in self._next[node]:
            node = self._fallback[node]
        return self._next[node].get(character, 0)

    def live_nodes(self) -> list[int]:
        """The nodes that a text can reach without a substring, shorter ones first; the root is the first."""
        nodes = [0]
        for node in nodes:  # grows while it is gone through
            nodes += (child for child in self._next[node].values() if not self._is_dead[child])
        return nodes

    def children(self, node: int) -> ItemsView[int, int]:
        """The places in the alphabet of the characters that go on from a node, and the nodes after them."""
        return self._next[node].items()

    def fallback(self, node: int) -> int:
        """The node of the longest proper suffix of a node's text that is in the trie."""
        return self._fallback[node]

    def next(self, state: int, character: int) -> int:
        """The state after a character, by its place in the alphabet; 0 at the end of a substring."""
        node = self._node_after(state - 1, character)
        return 0 if self._is_dead[node] else node + 1

    def kind(self, character: int) -> int:
        """See automaton.Machine: 0 for a character of no substring."""
        return character + 1 if character in self._used else 0

    def accepts(self, state: int) -> bool:
        """Any text that has got here is right."""
        return True
