"""Choosing every row's next token: the given text's, or one that is drawn.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Mapping

import numpy as np

from serving.constraints.masks import Bounds
from serving.engine import rows as table
from serving.engine import sampling
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.rows import DRAW, READ, TAKE, Records
from serving.engine.sampling import Bool, Drawn, Float32, Float64, Int64
from serving.vocabulary import BOUNDARY, Vocabulary

SPENT = -1
"""What a row draws where nothing remains."""
HOPELESS = -2
"""What a row has drawn that cannot be accepted any more."""


class Choices:
    """Chooses tokens; `entries` are the owners of the rows."""

    def __init__(self, entries: Mapping[int, Entry], vocabulary: Vocabulary) -> None:
        self._entries = entries
        self._size = len(vocabulary)

    def choose(self, live: Records, logits: Float32) -> Bool:
        """Set the token of every row that has none; which rows are done, [B]."""
        fresh = live["token"] < 0
        if not fresh.all():
            return self._choose_some(live, logits, fresh)
        is_given = live["at"] < live["given"]
        draws = live["kind"] == DRAW
        done: Bool = ~is_given & ~draws
        feeding, drawing = np.flatnonzero(~draws), np.flatnonzero(draws)
        if len(feeding):
            self._feed(live, logits, feeding)
        if len(drawing):
            records = live[drawing]
            done[drawing] = self._draw(records, logits[drawing])
            live[drawing] = records
        return done

    def _choose_some(self, live: Records, logits: Float32, fresh: Bool) -> Bool:
        """`choose` where the others still have their tokens."""
        done = np.zeros(len(live), np.bool_)
        if fresh.any():
            records = table.picked(live, fresh)
            done[fresh] = self.choose(records, logits[fresh])
            table.put(live, fresh, records)
        return done

    def _draw(self, records: Records, logits: Float32) -> Bool:
        """Draw in place; which rows are done, [B]."""
        drawn = self._drawn(records, logits)
        ids, length = drawn.ids, records["length"].copy()
        ended = ids == BOUNDARY
        grows = ~ended & (length < records["max_length"]) & (ids != SPENT)
        for name in ("log_prob", "sampling_log_prob", "log_weight"):
            records[name] += np.where(ended | grows, getattr(drawn, name), 0.0)
        records["text"][np.arange(len(records)), length] = ids
        records["length"] = length + grows
        records["token"] = ids
        self._follow(records, np.flatnonzero(grows & (records["bounded"] | records["watched"])))
        done: Bool = ~grows | (records["token"] == HOPELESS)
        return done

    def _drawn(self, records: Records, logits: Float32) -> Drawn:
        uniform = table.uniforms(records)
        mask = self._mask(records)
        left = self._left(records, logits, mask)
        return sampling.draw(logits, table.settings(records), uniform, mask, left)

    def _mask(self, records: Records) -> Bool | None:
        """What rows with bounds may draw, [B, V]; None where none has."""
        if not records["bounded"].any():
            return None
        mask = np.ones((len(records), self._size), np.bool_)
        for bounds, mine in self._by_bounds(records, np.flatnonzero(records["bounded"])):
            mask[mine] = bounds.allowed(records["length"][mine], records["state"][mine])
        return mask

    def _by_bounds(self, records: Records, rows: Int64) -> list[tuple[Bounds, Int64]]:
        """Rows by the bounds that they keep to, which many jobs may have in common."""
        owners = records["owner"][rows]
        numbers: dict[Bounds, list[int]] = {}
        for number in np.unique(owners).tolist():
            job = self._draw_entry(number).draw
            bounds = job.bounds or job.selection.accepted
            assert bounds is not None
            numbers.setdefault(bounds, []).append(number)
        if len(numbers) == 1:
            return [(bounds, rows) for bounds in numbers]
        return [(bounds, rows[np.isin(owners, some)]) for bounds, some in numbers.items()]

    def _follow(self, records: Records, rows: Int64) -> None:
        """Let the automata see the tokens that were chosen."""
        for bounds, mine in self._by_bounds(records, rows):
            state = bounds.next(records["state"][mine], records["token"][mine])
            records["state"][mine] = state
            lost = records["watched"][mine] & ~bounds.can_end(records["length"][mine], state)
            records["token"][mine[lost]] = HOPELESS

    def _left(self, records: Records, logits: Float32, mask: Bool | None) -> Float64 | None:
        """What remains to be drawn, [B, V], where a row draws without replacement."""
        owners = [self._draw_entry(number) for number in records["owner"].tolist()]
        if not any(entry.remaining for entry in owners):
            return None
        left = np.ones(logits.shape)
        for row, entry in enumerate(owners):
            if entry.remaining is not None:
                one = slice(row, row + 1)
                part = None if mask is None else mask[one]
                left[row] = self._visited(entry, records[one], logits[one], part)
        return left

    def _visited(
        self, entry: DrawEntry, record: Records, logits: Float32, mask: Bool | None
    ) -> Float64:
        """What remains after a row's text, [V], noting what tokens are drawn in proportion to."""
        raw = logits.astype(np.float64)
        masked = raw if mask is None else np.where(mask, raw, -np.inf)
        weights = sampling.weights_of(masked, table.settings(record))
        assert entry.remaining is not None
        first, length = int(record["first"][0]), int(record["length"][0])
        return entry.remaining.visit(record["text"][0, first:length].tolist(), weights[0])

    # --- given texts

    def _feed(self, live: Records, logits: Float32, rows: Int64) -> None:
        """Take the next token of given texts, the boundary at their ends."""
        records = table.picked(live, rows)
        at = records["at"]
        tokens = np.where(
            at < records["length"], records["text"][np.arange(len(rows)), at], BOUNDARY
        )
        live["token"][rows] = tokens
        reading = records["kind"] == READ
        if reading.any():
            self._note(table.picked(records, reading), logits[rows[reading]], tokens[reading])
        for row in rows[records["kind"] == TAKE].tolist():
            self._pass_by(live, logits, row)

    def _pass_by(self, live: Records, logits: Float32, row: int) -> None:
        """Note what tokens are drawn in proportion to, where a taken text is on its way."""
        one = slice(row, row + 1)
        here = live[one].copy()
        here["length"] = here["at"]
        entry = self._draw_entry(int(here["owner"][0]))
        self._visited(entry, here, logits[one], self._mask(here))
        if here["bounded"][0] and here["token"][0] != BOUNDARY:
            self._follow(live, np.array([row]))

    def _note(self, records: Records, logits: Float32, tokens: Int64) -> None:
        """Keep the log-probabilities of texts that are read."""
        raw = logits.astype(np.float64)
        log_probs = raw[np.arange(len(raw)), tokens] - sampling.log_partition(raw)
        for number in np.unique(records["owner"]).tolist():
            entry, mine = self._entries[number], records["owner"] == number
            assert isinstance(entry, ReadEntry)
            entry.log_probs[records["index"][mine], records["at"][mine]] = log_probs[mine]

    def _draw_entry(self, number: int) -> DrawEntry:
        entry = self._entries[number]
        assert isinstance(entry, DrawEntry)
        return entry
