"""Rows that are done: what they have come to, handed to their entries."""

from collections.abc import Mapping

import numpy as np

from serving.engine.choices import HOPELESS, SPENT
from serving.engine.contexts import Contexts, Float32
from serving.engine.drafts import FreeDrafts
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import FinishReason, Sample, Shortfall
from serving.engine.rows import DRAW, PREFIX, READ, Records, picked
from serving.engine.sampling import Bool
from serving.vocabulary import BOUNDARY, Vocabulary

_REASONS = (FinishReason.MAX_LENGTH, FinishReason.END)


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
            if drafts.any():
                self._finish_drafts(picked(records, drafts), drawn)
            self._finish_others(picked(records, ~drafts), logits[done][~drafts], drawn)
        return [number for number, entry in drawn.items() if entry.settle(self._vocabulary)]

    def _finish_drafts(self, records: Records, drawn: dict[int, DrawEntry]) -> None:
        samples = self._samples(records)
        tokens, owners = records["token"].tolist(), records["owner"].tolist()
        characters = records["length"] - records["first"] + (records["token"] == BOUNDARY)
        if owners.count(owners[0]) == len(owners) and self._finish_free(
            self._draw_entry(owners[0], drawn), samples, int(characters.sum())
        ):
            return
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

    @staticmethod
    def _finish_free(entry: DrawEntry, samples: list[Sample], characters: int) -> bool:
        """Hand on all of them at once, if their entry takes every draft; whether it does."""
        if not isinstance(entry.drafts, FreeDrafts):
            return False
        entry.drafts.usage.characters += characters
        entry.drafts.finish_all(samples)
        return True

    def _samples(self, records: Records) -> list[Sample]:
        """What rows have drawn."""
        ended = records["token"] == BOUNDARY
        log_prob = records["log_prob"]
        return list(
            map(
                Sample,
                self._vocabulary.decode_rows(records["text"], records["length"].tolist()),
                records["index"].tolist(),
                map(_REASONS.__getitem__, ended.tolist()),
                log_prob.tolist(),
                np.where(records["simple"], log_prob, records["sampling_log_prob"]).tolist(),
                records["log_weight"].tolist(),
                (records["attempt"] + np.uint64(1)).tolist(),
            )
        )

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
                entry.finish_taking(int(record["index"]), _ids(record))


def _ids(record: Records) -> list[int]:
    """The tokens of a row's text."""
    ids: list[int] = record["text"][: record["length"]].tolist()
    return ids
