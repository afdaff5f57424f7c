"""Rows that run together: letting them in, advancing them, letting them out.

B is the number of rows, V the vocabulary.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from serving.engine import rows as table
from serving.engine.choices import Choices
from serving.engine.contexts import Contexts
from serving.engine.endings import Endings
from serving.engine.entry import DrawEntry, Entry, ReadEntry
from serving.engine.job import Job
from serving.engine.philox import UInt64
from serving.engine.ready import ALONE, AT_ONCE
from serving.engine.relieving import Relieving
from serving.engine.rows import DRAW, PREFIX, READ, TAKE, Records, Rows, work_of
from serving.engine.sampling import Bool, Float32, Int64
from serving.engine.scheduler import FairQueue
from serving.engine.solo import run_alone
from serving.engine.walking import ENOUGH
from serving.manifest import Manifest

ROUNDS = 4
"""So many times at most are places that became free taken anew before the model takes a step."""
MANY, WIDE = 4, 64
"""Rows that are not simple go on by what is known if more than one in so many can, and at most so many others
wait for a step: beyond that, it takes as long for each."""


class Lane:
    """Entries and their rows.

    Args:
        manifest: of the model.
        contexts: where rows are.
        most: rows that may run at once.
        began: told which job has begun how much work.

    Attributes:
        begun: work that was begun since someone set it to 0.
    """

    def __init__(
        self,
        manifest: Manifest,
        contexts: Contexts,
        most: int,
        began: Callable[[Job, int], None],
    ) -> None:
        self.rows = Rows(manifest.max_length, most)
        self.entries: dict[int, Entry] = {}
        self.begun = 0
        self._began = began
        self._queue = FairQueue(most)
        self._vocabulary = manifest.vocabulary
        self._contexts = contexts
        self._choices = Choices(self.entries, manifest.vocabulary)
        self._endings = Endings(self.entries, manifest.vocabulary, contexts)
        self._relieving = Relieving(
            self.entries, self._queue, contexts, self._count, self._relieved
        )

    @property
    def has_work(self) -> bool:
        """Whether a turn might do anything."""
        return len(self.rows) > 0 or bool(self._queue)

    @property
    def has_more(self) -> bool:
        """Whether there is more to do than there are rows."""
        return bool(self._queue)

    def add(self, entry: Entry) -> None:
        """Take an entry in."""
        self.entries[entry.number] = entry
        self._queue.add(entry)

    def places(self) -> Int64:
        """Where its rows are, and what its entries go on from."""
        kept = [e.kept for e in self.entries.values() if isinstance(e, DrawEntry)]
        held = np.array([place for place in kept if place is not None], np.int64)
        return np.concatenate([self.rows.live["place"], held])

    def look_again(self) -> None:
        """Ask the entries anew that wait for their callers to collect what they have."""
        for entry in self.entries.values():
            if entry.is_stream:
                self._queue.add(entry)

    def hand_on(self) -> None:
        """Let no strings wait that are done."""
        self._relieving.tell()
        self._endings.hand_on()

    def drop(self, gone: Iterable[Entry]) -> None:
        """Let go of entries and their rows; nothing of theirs waits to be handed on."""
        self._relieving.end()
        mine = [entry for entry in gone if self.entries.pop(entry.number, None)]
        for entry in mine:
            self._queue.discard(entry)
        if any(entry.held for entry in mine):
            gone = ~np.isin(self.rows.live["owner"], list(self.entries))
            if gone.any():
                self._leave(self.rows.picked(gone), gone)

    def turn(self, is_interrupted: Callable[[], bool]) -> None:
        """Let rows in, choose every row's next token, let finished rows out, advance the others.

        A row that is alone may go on to its end, unless it is interrupted.
        """
        self._endings.look()
        self._admit()
        live = self.rows.live
        if len(live) == 1 and live["simple"][0]:
            if run_alone(live, self._contexts, self._relieving.walk, is_interrupted):
                self._let_out(0, np.ones(1, np.bool_))
            return
        self._choose_all()
        if len(self.rows):
            self._advance()

    def _advance(self) -> None:
        """Let rows see their next tokens."""
        live = self.rows.live
        live["place"], moved = self._contexts.advance(live["place"], live["token"])
        live["at"] += moved
        live["token"][moved] = -1

    def _choose_all(self) -> None:
        """Choose every row's next token, others' in the place of those that have left too."""
        begin = 0
        for _ in range(ROUNDS):  # lest a step be for less than it might
            chosen, hits = self._choose(begin)
            if hits >= ENOUGH:
                return
            begin = len(self.rows)
            has_more = self._admit()
            if chosen * MANY > begin and begin - chosen <= WIDE:
                begin = 0
            elif not has_more:
                return
        self._choose(begin)

    def _choose(self, begin: int) -> tuple[int, int]:
        """Choose the next tokens of the rows from `begin` on, and let out those that are done.

        Returns:
            How many were no simple ones, and how many tokens were seen without a step.
        """
        live = self.rows.live[begin:]
        if not len(live):
            return 0, 0
        walked = self._relieving.walk(live)
        done, logits = walked.are_done, None
        if walked.unchosen:
            logits = self._contexts.logits(live["place"])  # [B, V]
            done = done | self._choices.choose(live, logits)
        if walked.done or (walked.unchosen and done.any()):
            self._let_out(begin, done, logits)
        return walked.unchosen, walked.hits

    def _let_out(self, begin: int, done: Bool, logits: Float32 | None = None) -> None:
        """Hand on what the rows from `begin` on have come to where `done` holds, and let them go."""
        live = self.rows.live
        leaving = self.rows.picked(done, begin)
        gone = np.concatenate([np.zeros(begin, np.bool_), done]) if begin else done
        if useless := self._endings.finish(leaving, done, logits):
            gone = gone | (np.isin(live["owner"], useless) & (live["kind"] == DRAW))
            leaving = self.rows.picked(gone)
        self._leave(leaving, gone)

    def _leave(self, leaving: Records, gone: Bool) -> None:
        """Let rows go where `gone` [B] holds, which `leaving` are."""
        work = work_of(leaving)
        done: dict[int, list[int]] = {}
        for number, characters in zip(leaving["owner"].tolist(), work.tolist(), strict=True):
            done.setdefault(number, []).append(characters)
        for number, each in done.items():
            if number in self.entries:
                self._queue.settle(self.entries[number], sum(each), len(each))
        self._contexts.release(leaving["place"])
        self.rows.remove(gone)

    def _relieved(self, entry: DrawEntry, done: Records) -> None:
        """Rows are done whose places an entry's next drafts have taken."""
        self._began(entry.job, len(done) * entry.cost)
        entry.drafts.begin(len(done))
        self._queue.pass_on(entry, int(work_of(done).sum()))
        self._endings.add(entry, done)

    # --- letting rows in

    def _admit(self) -> bool:
        """Let rows in; whether there were any."""
        free = self.rows.free
        if not free:
            return False
        self._relieving.end()
        draws: list[tuple[DrawEntry, int]] = []
        for number, count in self._queue.take(free):
            entry = self.entries[number]
            entry.job.started_at = entry.job.started_at or time.monotonic()
            if isinstance(entry, DrawEntry) and entry.kept is not None and not entry.to_take:
                self._begin(entry, count)
                draws.append((entry, count))
                continue
            self.rows.add(self._filled(entry, count))
        if draws:
            self._add_draws(draws)
        return self.rows.free < free

    def _begin(self, entry: Entry, count: int) -> None:
        self._count(entry, count)
        self._began(entry.job, count * entry.cost)

    def _count(self, entry: Entry, count: int) -> None:
        """So many rows of an entry have begun."""
        self.begun += count * entry.cost

    def _filled(self, entry: Entry, count: int) -> Records:
        """Rows of the texts that an entry wants to be fed."""
        if isinstance(entry, DrawEntry) and entry.kept is not None:
            return self._takes(entry, count)
        records = self.rows.blank(count)
        records["owner"] = entry.number
        records["token"] = -1
        records["place"] = self._contexts.fork(self._contexts.root, count)
        if isinstance(entry, ReadEntry):
            self._begin(entry, count)
            records["kind"] = READ
            records["index"] = places = entry.next(count)
            table.give(records, [entry.read.texts[place] for place in places])
            return records
        assert isinstance(entry, DrawEntry)
        entry.is_prefix_out = True
        records["kind"] = PREFIX
        table.give(records, [entry.draw.prefix])
        return records

    def _add_draws(self, draws: Sequence[tuple[DrawEntry, int]]) -> None:
        """Rows for the drafts of several entries."""
        others = []
        at_once = ALONE if len(self.entries) == 1 else AT_ONCE
        for entry, count in draws:
            indices, attempts = entry.drafts.begin(count)
            if entry.draw.n == 1 or entry.remaining is not None or attempts.any():
                others.append((entry, indices, attempts))
                continue
            begin, walker = int(indices[0]), self._contexts.walker
            records = entry.ready.ahead(entry.packed, begin, count, walker, at_once)[:count]
            records["place"] = self._contexts.fork(entry.kept, count)
            self.rows.add(records)
        if others:
            self.rows.add(self._made_together(others))

    def _made_together(self, begun: Sequence[tuple[DrawEntry, UInt64, UInt64]]) -> Records:
        """Rows of several entries: made together, since a call may have just one."""
        counts = [(entry.packed(), len(indices)) for entry, indices, _ in begun]
        records = table.begun(self.rows.kind, counts)
        records["index"] = records["sample"] = np.concatenate([indices for _, indices, _ in begun])
        records["attempt"] = np.concatenate([attempts for _, _, attempts in begun])
        self._contexts.walker.fill_uniforms(records)
        forks = [self._contexts.fork(entry.kept, len(indices)) for entry, indices, _ in begun]
        records["place"] = np.concatenate(forks)
        end = 0
        for entry, indices, _ in begun:
            part = slice(end, end := end + len(indices))
            if entry.draw.prefix:
                records["text"][part, : len(entry.draw.prefix)] = entry.draw.prefix
        return records

    def _takes(self, entry: DrawEntry, count: int) -> Records:
        records = table.begun(self.rows.kind, [(entry.packed(), count)])
        records["place"] = self._contexts.fork(entry.kept, count)
        taken: Mapping[int, Sequence[int]] = {
            number: self._vocabulary.encode(one.text)
            for number, one in entry.begin_taking(count).items()
        }
        records["kind"] = TAKE
        records["index"] = list(taken)
        table.give(records, list(taken.values()))
        return records
