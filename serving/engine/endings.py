"""Rows that are done: what they have come to, handed to their entries."""

from collections.abc import Mapping

from serving.engine.choices import HOPELESS, SPENT
from serving.engine.contexts import Contexts, Float32
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import FinishReason, Sample, Shortfall
from serving.engine.rows import DRAW, PREFIX, READ, Records, picked
from serving.engine.sampling import Bool
from serving.vocabulary import BOUNDARY, Vocabulary


class Endings:
    """Hands on what rows have come to; `entries` are their owners."""

    def __init__(
        self, entries: Mapping[int, Entry], vocabulary: Vocabulary, contexts: Contexts
    ) -> None:
        self._entries = entries
        self._vocabulary = vocabulary
        self._contexts = contexts

    def finish(self, live: Records, done: Bool, logits: Float32 | None) -> list[int]:
        """Hand on what done rows have come to; which entries' drafts are of no use any more.

        Args:
            live: rows.
            done: which of them are done, [B].
            logits: after their texts, [B, V]; not needed where all are drafts.
        """
        records = picked(live, done)
        drawn: dict[int, DrawEntry] = {}
        drafts = records["kind"] == DRAW
        if drafts.all():
            self._finish_drafts(records, drawn)
        else:
            assert logits is not None
            self._finish_drafts(picked(records, drafts), drawn)
            self._finish_others(picked(records, ~drafts), logits[done][~drafts], drawn)
        return [number for number, entry in drawn.items() if entry.settle(self._vocabulary)]

    def _finish_drafts(self, records: Records, drawn: dict[int, DrawEntry]) -> None:
        columns = [records[name].tolist() for name in _SAMPLE]
        texts = self._vocabulary.decode_rows(records["text"], columns[0])
        for row, (text, length, owner, token, first, simple, index, attempt, *sums) in enumerate(
            zip(texts, *columns, strict=True)
        ):
            entry = drawn.get(owner) or self._draw_entry(owner, drawn)
            if token == SPENT:
                entry.drafts.shortfall = Shortfall.SPACE_EXHAUSTED
                continue
            ended = token == BOUNDARY
            entry.drafts.usage.characters += length - first + ended
            draft = Sample(
                text,
                index,
                FinishReason.END if ended else FinishReason.MAX_LENGTH,
                sums[0],
                sums[0] if simple else sums[1],
                sums[2],
                attempt + 1,
            )
            ids = records["text"][row, :length].tolist() if entry.looks_at_ids else []
            if token == HOPELESS:
                entry.give_up(draft, ids)
            else:
                entry.finish_draft(draft, ids)

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
                entry.finish_text(int(record["index"]), row.copy())
                continue
            assert isinstance(entry, DrawEntry)
            drawn[entry.number] = entry
            if record["kind"] == PREFIX:
                entry.kept = self._contexts.keep(int(record["place"]))
            else:
                ids = record["text"][: record["length"]].tolist()
                entry.finish_taking(int(record["index"]), ids)


_SAMPLE = (
    *("length", "owner", "token", "first", "simple", "index", "attempt"),
    *("log_prob", "sampling_log_prob", "log_weight"),
)
