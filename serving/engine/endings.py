"""Rows that are done: what they have come to, handed to their entries."""

from collections.abc import Mapping
from time import perf_counter

from serving.engine.choices import HOPELESS, SPENT
from serving.engine.contexts import Contexts
from serving.engine.drafts import FreeDrafts
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import Shortfall
from serving.engine.rows import DRAW, PREFIX, READ, Records, joined, picked
from serving.engine.samples import Samples
from serving.engine.sampling import Bool, Float32, Int64
from serving.vocabulary import BOUNDARY, Vocabulary

AT_ONCE = 256
WHILE = 0.01
"""So many strings of a job that goes on are handed on at a time, since few cost nearly as much; and whatever
there is if nothing was for so many seconds."""


class Endings:
    """Hands on what rows have come to; `entries` are their owners."""

    def __init__(
        self, entries: Mapping[int, Entry], vocabulary: Vocabulary, contexts: Contexts
    ) -> None:
        self._entries = entries
        self._vocabulary = vocabulary
        self._contexts = contexts
        self._waiting: list[Records] = []  # all of one entry
        self._handed_on = 0.0

    def finish(self, records: Records, done: Bool, logits: Float32 | None) -> list[int]:
        """Hand on what rows have come to, or let it wait; which entries' drafts are of no use any more.

        Args:
            records: the rows that are done, one at least.
            done: which of B rows they are, [B].
            logits: after the texts of the B, [B, V]; not needed where all are drafts.
        """
        sole = self._sole(records)
        if self._waiting and (sole is None or self._waiting[0]["owner"][0] != sole.number):
            self.hand_on()
        if sole is not None:
            self.add(sole, records)
            return []
        drawn: dict[int, DrawEntry] = {}
        drafts = records["kind"] == DRAW
        if drafts.all():
            self._finish_drafts(records, drawn)
        else:
            assert logits is not None
            if drafts.any():
                self._finish_drafts(picked(records, drafts), drawn)
            self._finish_others(picked(records, ~drafts), logits[done][~drafts], drawn)
        return [number for number, entry in drawn.items() if entry.settle(self._vocabulary)]

    def add(self, entry: DrawEntry, records: Records) -> None:
        """Let drafts of an entry that takes every draft be handed on, soon; nothing of another waits."""
        self._waiting.append(records)
        if not entry.wanted or sum(map(len, self._waiting)) >= AT_ONCE:
            self.hand_on()
        self.look()

    def look(self) -> None:
        """Let nothing wait that has waited for long."""
        if self._waiting and perf_counter() - self._handed_on >= WHILE:
            self.hand_on()

    def hand_on(self) -> None:
        """Let nothing wait any more."""
        if not self._waiting:
            return
        self._handed_on = perf_counter()
        records, self._waiting = joined(self._waiting), []
        entry = self._entries[int(records["owner"][0])]
        assert isinstance(entry, DrawEntry)
        assert isinstance(entry.drafts, FreeDrafts)
        entry.drafts.usage.characters += int(_characters(records).sum())
        entry.drafts.finish_all(Samples.of(records, self._vocabulary))
        entry.settle(self._vocabulary)

    def _sole(self, records: Records) -> DrawEntry | None:
        """The entry whose drafts all of them are, if it takes every draft."""
        owners = records["owner"].tolist()
        entry = self._entries[owners[0]]
        if not isinstance(entry, DrawEntry) or not isinstance(entry.drafts, FreeDrafts):
            return None
        is_sole = owners.count(owners[0]) == len(owners) and not records["kind"].any()
        return entry if is_sole else None

    def _finish_drafts(self, records: Records, drawn: dict[int, DrawEntry]) -> None:
        samples = Samples.of(records, self._vocabulary)
        tokens, owners = records["token"].tolist(), records["owner"].tolist()
        characters = _characters(records)
        for row, (owner, token, sample, many) in enumerate(
            zip(owners, tokens, samples, characters.tolist(), strict=True)
        ):
            entry = drawn.get(owner) or self._draw_entry(owner, drawn)
            if token == SPENT:
                entry.drafts.shortfall = Shortfall.SPACE_EXHAUSTED
                continue
            entry.drafts.usage.characters += many
            ids = _ids(records[row]) if entry.looks_at_ids else []
            if token == HOPELESS:
                entry.give_up(sample, ids)
            else:
                entry.finish_draft(sample, ids)

    def _draw_entry(self, owner: int, drawn: dict[int, DrawEntry]) -> DrawEntry:
        entry = self._entries[owner]
        assert isinstance(entry, DrawEntry)
        drawn[owner] = entry
        return entry

    def _finish_others(
        self, records: Records, logits: Float32, drawn: dict[int, DrawEntry]
    ) -> None:
        for record, row in zip(records, logits, strict=True):
            entry = self._entries[int(record["owner"])]
            if record["kind"] == READ:
                assert isinstance(entry, ReadEntry)
                entry.finish_text(int(record["index"]), row)
                continue
            assert isinstance(entry, DrawEntry)
            drawn[entry.number] = entry
            if record["kind"] == PREFIX:
                entry.kept = self._contexts.keep(int(record["place"]))
            else:
                entry.finish_taking(int(record["index"]), _ids(record))


def _characters(records: Records) -> Int64:
    """How many rows have drawn, the boundary included: [B]."""
    drawn: Int64 = records["length"] - records["first"] + (records["token"] == BOUNDARY)
    return drawn


def _ids(record: Records) -> list[int]:
    """The tokens of a row's text."""
    ids: list[int] = record["text"][: record["length"]].tolist()
    return ids
