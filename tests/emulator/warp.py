"""What threads do together: barriers, shuffles, votes, matches, tensor cores.  Decides who goes on, and with what."""

import numpy as np

from . import ptx


class Divergence(Exception):
    """Threads that must meet wait for each other at different places, or for threads that will not come."""


class Scheduler:
    """Releases the threads of a block that wait, as soon as all whom they wait for have come."""

    def __init__(self, state, count, orders, describe, place):
        self.status, self.sites, self.masks = (x[:count] for x in (state.status, state.sites, state.masks))
        self.slots, self.count, self.describe, self.place = state.slots[:count], count, describe, place
        self.orders = orders

    def release(self):
        """Let threads go on, or raise `Divergence`; called when none can run."""
        status = self.status
        first = status[0]
        if first == ptx.BARRIER and (status == first).all():
            self._barriers(np.arange(self.count))
            return
        gone_on = False
        waiting = np.flatnonzero(status == ptx.BARRIER)
        in_warps = np.flatnonzero((status > ptx.BARRIER) & (status < ptx.DONE))
        for w in np.unique(in_warps // 32):
            gone_on |= self._warp(int(w))
        if gone_on:
            return
        if len(waiting) == 0:
            raise Divergence(self._complaint())
        self._barriers(waiting)

    def _barriers(self, waiting):
        numbers, gone_on = self.slots[waiting, 0], False
        for number in np.unique(numbers):
            group = waiting[numbers == number]
            wanted = np.unique(self.slots[group, 1])
            if len(wanted) > 1:
                raise Divergence(f"threads give different sizes to barrier {number}: {wanted.tolist()}")
            if wanted[0] == 0:
                alive = np.flatnonzero(self.status != ptx.DONE)
                if len(alive) != len(group):
                    continue
            elif len(group) != wanted[0]:
                continue
            if len(np.unique(self.sites[group])) > 1:
                one = group[0]
                other = group[self.sites[group] != self.sites[one]][0]
                raise Divergence(f"{self._where(one)} and {self._where(other)} wait at different barriers")
            predicates = self.slots[group, 2] != 0
            kind = self.slots[group[0], 3]
            result = predicates.sum() if kind == 0 else predicates.all() if kind == 1 else predicates.any()
            self.slots[group, 0] = int(result)
            everyone = wanted[0] in (0, self.count)  # threads that have ended count as having come
            self.orders(self.sites[group], group, self.count, everyone)
            self.status[group] = ptx.RUNNING
            gone_on = True
        if not gone_on:
            raise Divergence(self._complaint())

    def _warp(self, number):
        """Collectives of one warp whose lanes are all there; whether there was one."""
        lanes = np.arange(32 * number, min(32 * number + 32, self.count))
        status, gone_on = self.status[lanes], False
        waits = (status > ptx.BARRIER) & (status < ptx.DONE)
        for mask in np.unique(self.masks[lanes[waits]]):
            named = (int(mask) >> np.arange(len(lanes))) & 1 != 0
            here = waits & (self.masks[lanes] == mask)
            alive = named & (status != ptx.DONE)
            if (here & ~named).any():
                raise Divergence(f"{self.describe(int(lanes[here & ~named][0]))} is not in its own mask 0x{mask:x}")
            if not (here == alive).all():
                continue
            group = lanes[here]
            if len(np.unique(self.sites[group])) > 1 and status[here][0] != ptx.SYNC:
                raise Divergence(f"lanes of the warp of {self.describe(int(group[0]))} meet at different instructions")
            if status[here][0] == ptx.SYNC:  # the others order no accesses
                self.orders(self.sites[group], group, self.count, False)
            self._compute(int(status[here][0]), lanes, here, int(mask))
            self.status[group] = ptx.RUNNING
            gone_on = True
        return gone_on

    def _compute(self, kind, lanes, here, mask):
        slots = self.slots[lanes]
        if kind == ptx.SHUFFLE:
            first, second = _shuffle(slots, here)
            slots[:, 0], slots[:, 1] = first, second
        elif kind == ptx.VOTE:
            predicate = (slots[:, 1] != 0) & here
            mode = slots[0 if here[0] else int(np.argmax(here)), 0]
            ballot = sum(1 << int(lane) for lane in np.flatnonzero(predicate))
            held = predicate[here]
            answer = {ptx.ALL: held.all(), ptx.ANY: held.any(), ptx.UNIFORM: held.all() or not held.any()}
            slots[:, 0], slots[:, 1] = ballot, int(answer.get(mode, 0))
        elif kind == ptx.MATCH:
            values = slots[:, 0].astype(np.uint64) | slots[:, 1].astype(np.uint64) << np.uint64(32)
            equal = (values[:, None] == values[None, :]) & here[None, :]
            found = (equal.astype(np.uint64) << np.arange(len(lanes), dtype=np.uint64)).sum(axis=1)
            everyone = equal.sum(axis=1) == here.sum()
            whole = slots[:, 2] != 0  # match.all
            slots[:, 0] = np.where(whole, np.where(everyone, mask, 0), found)
            slots[:, 1] = everyone
        elif kind == ptx.MMA:
            if len(lanes) < 32 or not here.all():
                raise Divergence(f"not all 32 lanes of the warp of {self.describe(int(lanes[0]))} multiply matrices")
            slots[:, :4] = multiply(slots)
        self.slots[lanes[here]] = slots[here]

    def _where(self, thread):
        return f"{self.describe(int(thread))}, at {self.place(int(self.sites[thread]))},"

    def _complaint(self):
        groups = {}
        for thread in np.flatnonzero(self.status != ptx.DONE):
            kind = ptx.NAMES[int(self.status[thread])]
            groups.setdefault((kind, int(self.sites[thread])), []).append(int(thread))
        done = int((self.status == ptx.DONE).sum())
        parts = [f"{len(t)} at a {kind} (first: {self._where(t[0])})" for (kind, _), t in groups.items()]
        return f"no thread can go on: {'; '.join(parts)}; {done} have ended"


def _shuffle(slots, here):
    """The value and the predicate of each lane: `shfl.sync` of the PTX manual."""
    mode, value, b, c = (slots[:, i].astype(np.int64) for i in range(4))
    lane = np.arange(len(slots))
    b, clamp, segment = b & 31, c & 31, (c >> 8) & 31
    highest, lowest = (lane & segment) | (clamp & ~segment), lane & segment
    source = np.select([mode == 0, mode == 1, mode == 2], [lowest | (b & ~segment), lane - b, lane + b], lane ^ b)
    valid = np.where(mode == 1, source >= highest, source <= highest)
    source = np.where(valid, source, lane)
    there = source < len(slots)
    source = np.where(there, source, 0)
    taken = np.where(there & here[source], value[source], 0xFFFFFFFF)  # of a lane that is not there: garbage
    return taken.astype(np.uint32), valid.astype(np.uint32)


def multiply(slots):
    """The accumulators of `mma.sync.m16n8k*`, from the fragments of the 32 lanes; the sum is rounded once."""
    kind, depth = int(slots[0, 0]), int(slots[0, 1])
    lane = np.arange(32)
    group, member = lane // 4, lane % 4
    per = 1 if kind == 0 else 2  # elements in a register
    count = depth // (4 * per)  # registers of b; a has twice as many
    a, b, c = np.zeros((16, depth)), np.zeros((depth, 8)), np.zeros((16, 8))
    rows = (group, group, group + 8, group + 8)
    columns = (2 * member, 2 * member + 1, 2 * member, 2 * member + 1)
    for half in range(count):
        for e in range(per):
            k = per * member + e + 4 * per * half
            for upper in range(2):
                a[group + 8 * upper, k] = _element(slots[:, 2 + 2 * half + upper], kind, e)
            b[k, group] = _element(slots[:, 2 + 2 * count + half], kind, e)
    start = 2 + 3 * count
    for i in range(4):
        c[rows[i], columns[i]] = slots[:, start + i].copy().view(np.float32)
    total = (a @ b + c).astype(np.float32).view(np.uint32)
    return np.stack([total[rows[i], columns[i]] for i in range(4)], axis=1)


def _element(words, kind, e):
    if kind == 0:  # tf32: the low 13 bits are ignored
        return (words & np.uint32(0xFFFFE000)).view(np.float32)
    halves = ((words >> np.uint32(16 * e)) & np.uint32(0xFFFF)).astype(np.uint16)
    if kind == 1:
        return halves.view(np.float16)
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
