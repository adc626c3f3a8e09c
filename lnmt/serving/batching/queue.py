"""Rows that wait for one engine: a bound, turns between principals, and batches of like length.

Turns are start-time fair queuing (Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996): a row's
start is when its owner's earlier rows would have been served, had every owner got an equal share of
the tokens. The row with the earliest start leads the next batch, whatever its length, so that none
starves; rows of like length fill it. Where the bound is reached, the owner with the most rows waiting
is the one who is refused (longest queue drop: Suter et al., INFOCOM 1998).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from lnmt.runtime.options import Options
from lnmt.serving.batching.policy import padded_tokens
from lnmt.serving.batching.row import Item, Job


class FairQueue:
    """Not thread-safe: one lock stands around it. Rows of a job are one owner's."""

    def __init__(self, *, rows: int, batch_rows: int, batch_tokens: int, options: Options | None = None) -> None:
        self.bound = rows  # of rows that wait; may be changed at any time
        self._batch_rows = batch_rows
        self._batch_tokens = batch_tokens
        self._options = options or Options()  # of the engine
        self._heap: list[tuple[float, int, Item]] = []
        self._order = itertools.count()
        self._by_width: defaultdict[int, dict[int, Item]] = defaultdict(dict)  # by id of the item, oldest first
        self._tokens = 0
        self._owners: Counter[str] = Counter()  # rows waiting
        self._finish: dict[str, float] = {}  # virtual time at which an owner's last row ends
        self._now = 0.0  # virtual time

    def __len__(self) -> int:
        return self._owners.total()

    @property
    def full_batch(self) -> bool:
        """More than what waits would not fit into one batch."""
        return len(self) >= self._batch_rows or self._tokens >= self._batch_tokens

    def oldest(self) -> float:
        """When the row came whose turn is next, in monotonic seconds. The queue is not empty."""
        return self._head().arrived

    def room(self, owner: str, rows: int) -> list[Job] | None:
        """The jobs that must give way so that `rows` of `owner` fit: often none. None where they do not fit.

        A list longer than the bound is taken when nothing waits.
        """
        waiting = len(self)
        over = waiting + rows - self.bound
        if over <= 0 or not waiting:
            return []
        heaviest, most = self._owners.most_common(1)[0]
        if self._owners[owner] + rows >= most:
            return None
        evicted: dict[int, Job] = {}
        for _, _, item in sorted(self._heap, reverse=True):
            if over <= 0:
                break
            if item.gone or item.job.owner != heaviest or id(item.job) in evicted:
                continue
            evicted[id(item.job)] = item.job
            over -= sum(1 for _, _, other in self._heap if other.job is item.job and not other.gone)
        return list(evicted.values()) if over <= 0 else None

    def put(self, items: list[Item]) -> None:
        """Add the rows of one job."""
        for item in items:
            owner = item.job.owner
            item.start = max(self._now, self._finish.get(owner, 0.0))
            self._finish[owner] = item.start + item.width
            self._owners[owner] += 1
            self._tokens += item.width
            self._by_width[item.width][id(item)] = item
            heapq.heappush(self._heap, (item.start, next(self._order), item))

    def drop(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take out the rows that nobody wants any more."""
        found = [item for _, _, item in self._heap if not item.gone and unwanted(item)]
        for item in found:
            self._remove(item)
        return found

    def take(
        self, worth: Callable[[int], bool], done_at: Callable[[int, int], float] = lambda padded, rows: -math.inf
    ) -> list[Item]:
        """The next batch, the widest row first; empty where nothing waits.

        `worth(padding)` tells whether a batch may compute so many tokens of padding to hold one row more,
        `done_at(padded, rows)` when such a batch would be done, in monotonic seconds: no row joins that would
        then come too late, or make one come too late that is in it.
        """
        if not len(self):
            return []
        head = self._head()
        self._now = head.start
        chosen, real, soonest = [head], head.width, head.job.deadline
        done = {False: False, True: False}  # narrower, wider: nothing further out fits either
        for item in self._nearest(head):
            wider = item.width > head.width
            if len(chosen) == self._batch_rows or all(done.values()):
                break
            if done[wider]:
                continue
            padded = padded_tokens([*(other.width for other in chosen), item.width], self._options)
            if padded > self._batch_tokens or not worth(padded - real - item.width):
                done[wider] = True
                continue
            at = done_at(padded, len(chosen) + 1)
            if at > soonest:
                break
            if at > item.job.deadline:
                continue
            chosen.append(item)
            real += item.width
            soonest = min(soonest, item.job.deadline)
        for item in chosen:
            self._remove(item)
        return sorted(chosen, key=lambda item: -item.width)

    def _head(self) -> Item:
        while self._heap[0][2].gone:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def _nearest(self, head: Item) -> Iterator[Item]:
        """The other rows, nearest width first, the oldest first among equals."""
        for width in sorted(self._by_width, key=lambda width: abs(width - head.width)):
            for item in list(self._by_width[width].values()):
                if item is not head:
                    yield item

    def _remove(self, item: Item) -> None:
        item.gone = True
        self._tokens -= item.width
        same = self._by_width[item.width]
        del same[id(item)]
        if not same:
            del self._by_width[item.width]
        self._owners[item.job.owner] -= 1
        if not self._owners[item.job.owner]:
            del self._owners[item.job.owner]
        if not self._owners:  # a busy period ends: nobody has a turn to make up for
            self._heap.clear()
            self._finish.clear()
            self._now = 0.0
