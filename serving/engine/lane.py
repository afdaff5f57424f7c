"""Rows that run together: letting them in, advancing them, letting them out.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from serving.engine import rows as table
from serving.engine.choices import Choices
from serving.engine.contexts import Contexts
from serving.engine.endings import Endings
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.rows import DRAW, PREFIX, READ, TAKE, Records, Rows
from serving.engine.sampling import Bool
from serving.engine.scheduler import shares
from serving.manifest import Manifest


class Lane:
    """Entries and their rows.

    Args:
        manifest: of the model.
        contexts: where rows are.
        most: rows that may run at once.
    """

    def __init__(self, manifest: Manifest, contexts: Contexts, most: int) -> None:
        self.rows = Rows(manifest.max_length, most)
        self.entries: dict[int, Entry] = {}
        self._vocabulary = manifest.vocabulary
        self._contexts = contexts
        self._choices = Choices(self.entries, manifest.vocabulary)
        self._endings = Endings(self.entries, manifest.vocabulary, contexts)

    @property
    def has_work(self) -> bool:
        """Whether a turn would do anything."""
        return len(self.rows) > 0 or any(entry.wanted for entry in self.entries.values())

    def drop(self, gone: Iterable[Entry]) -> None:
        """Let go of entries and their rows."""
        for entry in gone:
            self.entries.pop(entry.number, None)
        self._remove(~np.isin(self.rows.live["owner"], list(self.entries)))

    def turn(self) -> None:
        """Let rows in, choose every row's next token, let finished rows out, advance the others."""
        self._admit()
        self._choose(0)
        others = len(self.rows)
        self._admit()  # in the place of those that have left
        self._choose(others)
        live = self.rows.live
        if len(live):
            live["place"], moved = self._contexts.advance(live["place"], live["token"])
            live["at"] += moved
            live["token"] = np.where(moved, -1, live["token"])

    def _choose(self, begin: int) -> None:
        """Choose the next tokens of the rows from `begin` on, and let out those that are done."""
        live = self.rows.live[begin:]
        if not len(live):
            return
        logits = self._contexts.logits(live["place"])  # [B, V]
        done = self._choices.choose(live, logits)
        if done.any():
            gone = np.zeros(len(self.rows), np.bool_)
            gone[begin:] = done
            for number in self._endings.finish(live, logits, done):
                every = self.rows.live
                gone |= (every["owner"] == number) & (every["kind"] == DRAW)
            self._remove(gone)

    def _remove(self, gone: Bool) -> None:
        if not gone.any():
            return
        leaving = self.rows.live[gone]
        for number in leaving["owner"].tolist():
            if number in self.entries:
                self.entries[number].held -= 1
        self._contexts.release(leaving["place"])
        self.rows.remove(gone)

    # --- letting rows in

    def _admit(self) -> None:
        free = self.rows.free
        if not free:
            return
        waiting = [(entry, wanted) for entry in self.entries.values() if (wanted := entry.wanted)]
        if len(waiting) == 1:
            given = [min(waiting[0][1], free)]
        else:
            given = shares([w for _, w in waiting], [e.held for e, _ in waiting], free)
        for (entry, _), count in zip(waiting, given, strict=True):
            if count:
                records = self.rows.blank(count)
                records["owner"] = entry.number
                records["token"] = -1
                self._fill(records, entry)
                entry.held += count
                self.rows.add(records)

    def _fill(self, records: Records, entry: Entry) -> None:
        """Make rows of what an entry wants to begin."""
        if isinstance(entry, ReadEntry):
            places = entry.next(len(records))
            records["kind"] = READ
            records["index"] = places
            table.give(records, [entry.read.texts[place] for place in places])
            records["place"] = self._contexts.fork(self._contexts.root, len(records))
            return
        assert isinstance(entry, DrawEntry)
        if entry.kept is None:
            entry.is_prefix_out = True
            records["kind"] = PREFIX
            table.give(records, [entry.draw.prefix])
            records["place"] = self._contexts.fork(self._contexts.root, 1)
            return
        records["place"] = self._contexts.fork(entry.kept, len(records))
        if entry.to_take:
            self._fill_takes(records, entry)
        else:
            self._fill_draws(records, entry)

    def _fill_draws(self, records: Records, entry: DrawEntry) -> None:
        job = entry.draw
        table.begin(records, job.parameters, job.prefix, job.max_length)
        records["kind"] = DRAW
        records["index"], records["attempt"] = entry.drafts.begin(len(records))
        if job.bounds is not None:
            records["bounded"], records["state"] = True, job.bounds.start
        elif job.selection.accepted is not None:
            records["watched"], records["state"] = True, job.selection.accepted.start
        else:
            records["simple"] = job.parameters.is_plain and entry.remaining is None
        records["uniform"] = entry.uniforms(records["index"], records["attempt"])

    def _fill_takes(self, records: Records, entry: DrawEntry) -> None:
        job = entry.draw
        table.begin(records, job.parameters, job.prefix, job.max_length)
        taken: Mapping[int, Sequence[int]] = {
            number: self._vocabulary.encode(one.text)
            for number, one in entry.begin_taking(len(records)).items()
        }
        records["kind"] = TAKE
        records["index"] = list(taken)
        if job.bounds is not None:
            records["bounded"] = True
            records["state"] = job.bounds.start
        table.give(records, list(taken.values()))
