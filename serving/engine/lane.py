"""Rows that run together: letting them in, choosing their next tokens, letting them out.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Iterable

import numpy as np

from serving.constraints.remaining import Remaining
from serving.engine import rows as table
from serving.engine import sampling
from serving.engine.contexts import Contexts, Float32
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import FinishReason, Sample, Shortfall
from serving.engine.rows import Kind, Records, Rows
from serving.engine.sampling import Bool, Drawn, Float64, Int64
from serving.engine.scheduler import shares
from serving.manifest import Manifest
from serving.vocabulary import BOUNDARY

SPENT = -1  # what a row draws where nothing remains


class Lane:
    """Entries and their rows."""

    def __init__(self, manifest: Manifest, contexts: Contexts, most: int) -> None:
        self.vocabulary = manifest.vocabulary
        self.rows = Rows(manifest.max_length, most)
        self.entries: dict[int, Entry] = {}
        self._contexts = contexts

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
        live = self.rows.live
        if len(live):
            self._remove(self._choose(live))
        live = self.rows.live
        if len(live):
            places, moved = self._contexts.advance(live["place"], live["token"])
            live["place"] = places
            live["at"] += moved
            live["token"][moved] = -1

    # --- letting rows in

    def _admit(self) -> None:
        if not self.rows.free:
            return
        waiting = [entry for entry in self.entries.values() if entry.wanted]
        given = shares([e.wanted for e in waiting], [e.held for e in waiting], self.rows.free)
        for entry, count in zip(waiting, given, strict=True):
            if count and isinstance(entry, ReadEntry):
                self._add(entry, self._reads(entry, count))
            elif count and isinstance(entry, DrawEntry):
                self._add(entry, self._draws(entry, count))

    def _add(self, entry: Entry, records: Records) -> None:
        records["owner"] = entry.number
        entry.held += len(records)
        self.rows.add(records)

    def _reads(self, entry: ReadEntry, count: int) -> Records:
        indices = entry.next(count)
        records = self.rows.blank(count)
        records["kind"] = Kind.READ
        records["index"] = indices
        self._give(records, [entry.read.texts[i] for i in indices])
        return records

    def _give(self, records: Records, texts: list[Iterable[int]]) -> None:
        """Make rows begin at the start of the string with a text to feed."""
        for record, text in zip(records, texts, strict=True):
            ids = list(text)
            record["text"][: len(ids)] = ids
            record["given"] = record["length"] = len(ids)
        records["token"] = -1
        records["place"] = self._contexts.fork(self._contexts.root, len(records))

    def _draws(self, entry: DrawEntry, count: int) -> Records:
        job = entry.draw
        if entry.kept is None:
            entry.is_prefix_out = True
            records = self.rows.blank(1)
            records["kind"] = Kind.PREFIX
            self._give(records, [job.prefix])
            return records
        if entry.to_take:
            return self._takes(entry, count)
        records = self.rows.blank(count)
        table.set_up(records, job.parameters, job.prefix)
        records["index"], records["attempt"] = np.array(entry.drafts.begin(count), np.uint64).T
        records["max_length"] = job.max_length
        if job.bounds is not None:
            records["bounded"], records["state"] = True, job.bounds.start
        records["plain"] &= job.bounds is None and entry.remaining is None
        records["place"] = self._contexts.fork(entry.kept, count)
        table.refill_uniforms(records)
        return records

    def _takes(self, entry: DrawEntry, count: int) -> Records:
        job, records = entry.draw, self.rows.blank(count)
        taken = entry.begin_taking(count)
        table.set_up(records, job.parameters, job.prefix)
        records["kind"] = Kind.TAKE
        records["index"] = list(taken)
        for record, one in zip(records, taken.values(), strict=True):
            ids = self.vocabulary.encode(one.text)
            record["text"][: len(ids)] = ids
            record["given"] = record["length"] = len(ids)
        records["max_length"] = job.max_length
        records["place"] = self._contexts.fork(entry.kept, count)
        return records

    # --- choosing tokens

    def _choose(self, live: Records) -> Bool:
        """Set the token of every row that has none; which rows are done, [B]."""
        logits = self._contexts.logits(live["place"])  # [B, V]
        fresh: Bool = live["token"] < 0
        is_given = live["at"] < live["given"]
        draws = live["kind"] == Kind.DRAW
        drawing = fresh & ~is_given & draws
        done = fresh & ~is_given & ~draws
        if not drawing.all():
            self._feed(live, logits, np.flatnonzero(fresh & ~drawing))
        if drawing.any():
            self._draw(live, logits, np.flatnonzero(drawing), done)
        if done.any():
            for entry in self._finish(live, logits, np.flatnonzero(done)):
                done |= (live["owner"] == entry.number) & draws
        marked: Bool = done
        return marked

    def _feed(self, live: Records, logits: Float32, rows: Int64) -> None:
        """Take the next token of given texts, the boundary at their ends."""
        at = live["at"][rows]
        tokens = np.where(at < live["length"][rows], live["text"][rows, at], BOUNDARY)
        reading = live["kind"][rows] == Kind.READ
        self._note(live[rows[reading]], logits[rows[reading]], tokens[reading])
        for row in rows[live["kind"][rows] == Kind.TAKE]:
            self._visit(live[row], logits[row])
        live["token"][rows] = tokens

    def _note(self, records: Records, logits: Float32, tokens: Int64) -> None:
        """Keep the log-probabilities of texts that are read."""
        raw = logits.astype(np.float64)
        log_probs = raw[np.arange(len(raw)), tokens] - sampling.log_partition(raw)
        for number in np.unique(records["owner"]):
            entry, mine = self.entries[number], records["owner"] == number
            assert isinstance(entry, ReadEntry)
            entry.log_probs[records["index"][mine], records["at"][mine]] = log_probs[mine]

    def _draw(self, live: Records, logits: Float32, rows: Int64, done: Bool) -> None:
        """Draw every row's next token; marks those that are done."""
        records = live if len(rows) == len(live) else live[rows]
        drawn = self._drawn(records, logits[rows], rows, live)
        ids, length = drawn.ids, records["length"]
        ended = ids == BOUNDARY
        cut = ~ended & (length == records["max_length"])
        grows = ~ended & ~cut & (ids != SPENT)
        counts = rows[ended | grows]
        for name in ("log_prob", "sampling_log_prob", "log_weight"):
            live[name][counts] += getattr(drawn, name)[ended | grows]
        growing = rows[grows]
        live["text"][growing, length[grows]] = ids[grows]
        live["token"][rows] = ids
        live["length"][growing] += 1
        done[rows[~grows]] = True
        self._follow_bounds(live, growing)

    def _drawn(self, records: Records, logits: Float32, rows: Int64, live: Records) -> Drawn:
        used_up = (records["length"] > records["first"]) & (
            (records["length"] - records["first"]) % table.AHEAD == 0
        )
        if used_up.any():
            refilled = records[used_up]
            table.refill_uniforms(refilled)
            live[rows[used_up]] = refilled
            records = live[rows]
        uniform = table.uniforms(records)
        if records["plain"].all():
            return sampling.draw(logits, None, uniform)
        settings = table.settings(records)
        mask = self._mask(records)
        return sampling.draw(logits, settings, uniform, mask, self._left(records, logits, mask))

    def _mask(self, records: Records) -> Bool | None:
        """What rows with bounds may draw, [B, V]; None where none has."""
        if not records["bounded"].any():
            return None
        mask = np.ones((len(records), len(self.vocabulary)), np.bool_)
        for number in np.unique(records["owner"][records["bounded"]]):
            bounds = self._draw_entry(number).draw.bounds
            mine = records["owner"] == number
            assert bounds is not None
            mask[mine] = bounds.allowed(records["length"][mine], records["state"][mine])
        return mask

    def _follow_bounds(self, live: Records, rows: Int64) -> None:
        """Let the automata see the tokens that were chosen."""
        rows = rows[live["bounded"][rows]]
        for number in np.unique(live["owner"][rows]):
            bounds = self._draw_entry(number).draw.bounds
            mine = rows[live["owner"][rows] == number]
            assert bounds is not None
            live["state"][mine] = bounds.next(live["state"][mine], live["token"][mine])

    def _left(self, records: Records, logits: Float32, mask: Bool | None) -> Float64 | None:
        """What remains to be drawn, [B, V], where a row draws without replacement."""
        owners = {int(n): self._draw_entry(n) for n in np.unique(records["owner"])}
        if not any(entry.remaining for entry in owners.values()):
            return None
        left = np.ones(logits.shape)
        for row, record in enumerate(records):
            remaining = owners[int(record["owner"])].remaining
            if remaining is not None:
                row_mask = None if mask is None else mask[row : row + 1]
                left[row] = self._visited(remaining, record, logits[row : row + 1], row_mask)
        return left

    def _visit(self, record: Records, logits: Float32) -> None:
        """Note what tokens are drawn in proportion to, where a taken text is on its way."""
        if record["at"] < record["first"]:
            return
        entry = self._draw_entry(int(record["owner"]))
        assert entry.remaining is not None
        one = record.reshape(1).copy()
        one["length"] = one["at"]
        mask = self._mask(one)
        self._visited(entry.remaining, one[0], logits[None], mask)

    def _visited(
        self, remaining: Remaining, record: Records, logits: Float32, mask: Bool | None
    ) -> Float64:
        raw = logits.astype(np.float64)
        settings = table.settings(record.reshape(1))
        weights = sampling.weights_of(
            raw if mask is None else np.where(mask, raw, -np.inf), settings
        )
        path = record["text"][record["first"] : record["length"]].tolist()
        return remaining.visit(path, weights[0])

    def _draw_entry(self, number: int) -> DrawEntry:
        entry = self.entries[int(number)]
        assert isinstance(entry, DrawEntry)
        return entry

    # --- letting rows out

    def _finish(self, live: Records, logits: Float32, rows: Int64) -> list[DrawEntry]:
        """Hand on what done rows have come to; which entries' drafts are of no use any more."""
        records = live[rows]
        texts = self._texts(records)
        drawn: dict[int, DrawEntry] = {}
        for record, row, text in zip(records, rows, texts, strict=True):
            entry = self.entries[int(record["owner"])]
            if isinstance(entry, ReadEntry):
                entry.finish_text(int(record["index"]), logits[row].copy())
                continue
            assert isinstance(entry, DrawEntry)
            drawn[entry.number] = entry
            if record["kind"] == Kind.PREFIX:
                entry.kept = self._contexts.keep(int(record["place"]))
            elif record["kind"] == Kind.TAKE:
                self._take(entry, record)
            else:
                self._finish_draft(entry, record, text)
        return [entry for entry in drawn.values() if entry.settle(self.vocabulary)]

    def _texts(self, records: Records) -> list[str]:
        return [
            self.vocabulary.decode(ids[:length])
            for ids, length in zip(
                records["text"].tolist(), records["length"].tolist(), strict=True
            )
        ]

    def _take(self, entry: DrawEntry, record: Records) -> None:
        taken = entry.taking.pop(int(record["index"]))
        path = record["text"][record["first"] : record["length"]].tolist()
        assert entry.remaining is not None
        entry.remaining.take(path, ended=taken.ended, cut=taken.cut)

    def _finish_draft(self, entry: DrawEntry, record: Records, text: str) -> None:
        drafts, selection = entry.drafts, entry.draw.selection
        if record["token"] == SPENT:
            drafts.shortfall = Shortfall.SPACE_EXHAUSTED
            return
        ended = record["token"] == BOUNDARY
        draft = Sample(
            text,
            int(record["index"]),
            FinishReason.END if ended else FinishReason.MAX_LENGTH,
            float(record["log_prob"]),
            float(record["sampling_log_prob"]),
            float(record["log_weight"]),
            int(record["attempt"]) + 1,
        )
        drafts.usage.characters += int(record["length"] - record["first"]) + int(ended)
        ids = record["text"][: record["length"]].tolist()
        if selection.accepted is not None and not selection.accepted.accepts(ids):
            is_short = len(ids) < selection.accepted.shortest
            drafts.reject(draft, "length" if is_short else "pattern")
        else:
            drafts.finish(draft)
        self._take_draft(entry, record, draft)

    def _take_draft(self, entry: DrawEntry, record: Records, draft: Sample) -> None:
        """What was drawn without replacement does not come again, unless it may."""
        if entry.remaining is None:
            return
        is_rejected = draft.index not in entry.drafts
        if is_rejected or entry.draw.selection.is_unique:
            path = record["text"][record["first"] : record["length"]].tolist()
            cut = draft.finish_reason is FinishReason.MAX_LENGTH
            ended = not (is_rejected and cut and entry.draw.selection.complete_only)
            entry.remaining.take(path, ended=ended, cut=True)

    def _remove(self, gone: Bool) -> None:
        if not gone.any():
            return
        leaving = self.rows.live[gone]
        for number, count in zip(*np.unique(leaving["owner"], return_counts=True), strict=True):
            if int(number) in self.entries:
                self.entries[int(number)].held -= int(count)
        self._contexts.release(leaving["place"])
        self.rows.remove(gone)
