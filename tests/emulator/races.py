"""The check of an access against all earlier ones, as LLVM IR: which of them were not ordered before it.

A *stamp* says of an access its round (how often the threads were let go on; counted through the process), its thread
and its site.  Each granule of memory has a cell: the stamp of the last store, a set of loads and, where the kernel has
atomics, a set of those.  A later access by thread t is in order with a stamp

- of an earlier launch, or of t itself;
- of the same block, from before the last barrier of the whole block;
- of the same block and a round of that thread that, as `known` says, t has waited for: at a `syncwarp`, or at a barrier
  of some threads.

A store must be in order with all, a load with the last store and all atomics, an atomic with the last store and all
loads.  A set keeps what later stores have to be compared with: nothing that is ordered before something else in it.
Without the third rule two loads by different threads are as good as all of them; with it there is a chain of more.
"""

from dataclasses import dataclass

from .ptx import EXHAUSTED, MAX_THREADS, RACE, WORDS, constant

SITE_BITS, THREAD_BITS = 22, 10  # of a stamp; the rest is the round
FIRST, SECOND, OTHER, CHAIN = (8 * i for i in range(4))  # of a set: two loads, one by an earlier block, more
UNTRACED, REFUSED = 0, 1  # in the place of where the cells are: nothing remembers this access; it is not allowed
KINDS = ("load", "store", "observe", "atomic")  # the third: a load that may meet atomics


@dataclass(frozen=True)
class Layout:
    """How the accesses to a granule are remembered: it depends on what a kernel does."""

    shift: int  # the logarithm of the granule's bytes
    has_atomics: bool
    chains: bool  # some threads wait for each other, not all of the block

    @property
    def set_bytes(self):
        return 32 if self.chains else 24

    @property
    def cell_bytes(self):
        return 8 + self.set_bytes * (2 if self.has_atomics else 1)

    @property
    def loads(self):
        """The words of a cell that hold stamps of loads."""
        return [1, 2, 3]

    @property
    def stores(self):
        return [0]

    @property
    def atomics(self):
        begin = 1 + self.set_bytes // 8
        return [begin, begin + 1, begin + 2] if self.has_atomics else []


def functions(layout, state, known, pool):
    """The functions `emu.check.load`, `store`, `atomic`: whether an access is allowed, and in order with all before it.

    A cell lies at `bias + granule * cell_bytes`.  `pool`: where the memory for chains begins and ends.
    """
    kinds = KINDS if layout.has_atomics else KINDS[:3]
    parts = [_ordered(layout, state, known), _conflict(layout), _keep(layout, state, pool), _report(state)]
    return "\n".join([*parts, *(_trace(layout, state, kind) for kind in kinds), *map(_check, kinds)])


def _word(state, name):
    return constant(state + 4 * WORDS[name])


def _ordered(layout, state, known):
    same = ["%in = or i1 %before, %own"]
    if layout.chains:
        same = [
            "%ta = lshr i64 %me, 22",
            f"%tb = and i64 %ta, {MAX_THREADS - 1}",
            f"%row = shl i64 %tb, {THREAD_BITS}",
            "%ua = lshr i64 %s, 22",
            f"%ub = and i64 %ua, {MAX_THREADS - 1}",
            "%place = or i64 %row, %ub",
            f"%pk = getelementptr i32, ptr {constant(known)}, i64 %place",
            "%k32 = load i32, ptr %pk",
            "%k = zext i32 %k32 to i64",
            "%round = lshr i64 %s, 32",
            "%waited = icmp uge i64 %k, %round",
            "%in0 = or i1 %before, %own",
            "%in = or i1 %in0, %waited",
        ]
    return f"""
define linkonce_odr i1 @emu.ordered(i64 %s, i64 %me) alwaysinline nounwind {{
  %launch = load i64, ptr {_word(state, "launch")}
  %block = load i64, ptr {_word(state, "block")}
  %ordered = load i64, ptr {_word(state, "ordered")}
  %stale = icmp ult i64 %s, %launch
  %here = icmp uge i64 %s, %block
  %before = icmp ult i64 %s, %ordered
  %differ = xor i64 %s, %me
  %thread = and i64 %differ, {(MAX_THREADS - 1) << SITE_BITS}
  %own = icmp eq i64 %thread, 0
  {chr(10).join(same)}
  %both = and i1 %here, %in
  %ok = or i1 %stale, %both
  ret i1 %ok
}}"""


def _conflict(layout):
    """A stamp of a set that is not in order with `me`, or 0."""
    chain = """
  %pc = getelementptr i8, ptr %set, i64 24
  %head = load ptr, ptr %pc
  br label %loop
loop:
  %node = phi ptr [ %head, %chain ], [ %next, %step ]
  %none = icmp eq ptr %node, null
  br i1 %none, label %fine, label %test
test:
  %s = load i64, ptr %node
  %pn = getelementptr i8, ptr %node, i64 8
  %next = load ptr, ptr %pn
  %good = call i1 @emu.ordered(i64 %s, i64 %me)
  br i1 %good, label %step, label %found
step:
  br label %loop
found:
  ret i64 %s"""
    chain = chain if layout.chains else "\n  br label %fine"
    return f"""
define linkonce_odr i64 @emu.conflict(ptr %set, i64 %me) noinline nounwind {{
entry:
  %a = load i64, ptr %set
  %pb = getelementptr i8, ptr %set, i64 {SECOND}
  %b = load i64, ptr %pb
  %po = getelementptr i8, ptr %set, i64 {OTHER}
  %c = load i64, ptr %po
  %oka = call i1 @emu.ordered(i64 %a, i64 %me)
  br i1 %oka, label %second, label %bad
second:
  %okb = call i1 @emu.ordered(i64 %b, i64 %me)
  br i1 %okb, label %third, label %bad
third:
  %okc = call i1 @emu.ordered(i64 %c, i64 %me)
  br i1 %okc, label %chain, label %bad
bad:
  %which = phi i64 [ %a, %entry ], [ %b, %second ], [ %c, %third ]
  ret i64 %which
chain:{chain}
fine:
  ret i64 0
}}"""


def _keep(layout, state, pool):
    """Put `me` into a set, in the place of what is ordered before it; whether there was memory for it."""
    end = """
  br label %done"""
    if layout.chains:
        end = f"""
  %pc = getelementptr i8, ptr %set, i64 {CHAIN}
  %head = load ptr, ptr %pc
  br label %loop
loop:
  %node = phi ptr [ %head, %end ], [ %next, %step ]
  %p = phi i1 [ %p2, %end ], [ %p3, %step ]
  %none = icmp eq ptr %node, null
  br i1 %none, label %last, label %test
test:
  %pn = getelementptr i8, ptr %node, i64 8
  %next = load ptr, ptr %pn
  %p3 = call i1 @emu.replace(ptr %set, ptr %node, i64 %me, i1 %p)
  br label %step
step:
  br label %loop
last:
  br i1 %p, label %done, label %new
new:
  %at = load i64, ptr {_word(state, "nodes")}
  %after = add i64 %at, 16
  %room = icmp ule i64 %after, {pool[1]}
  br i1 %room, label %make, label %exhausted
make:
  store i64 %after, ptr {_word(state, "nodes")}
  %made = inttoptr i64 %at to ptr
  store i64 %me, ptr %made
  %pm = getelementptr i8, ptr %made, i64 8
  store ptr %head, ptr %pm
  store ptr %made, ptr %pc
  br label %done
exhausted:
  store i32 {EXHAUSTED}, ptr {_word(state, "failed")}
  ret i1 false"""
    return f"""
define linkonce_odr i1 @emu.replace(ptr %set, ptr %p, i64 %me, i1 %placed) alwaysinline nounwind {{
entry:
  %s = load i64, ptr %p
  %launch = load i64, ptr {_word(state, "launch")}
  %block = load i64, ptr {_word(state, "block")}
  %now = icmp uge i64 %s, %launch
  %past = icmp ult i64 %s, %block
  %foreign = and i1 %now, %past
  br i1 %foreign, label %other, label %mine
other:
  %po = getelementptr i8, ptr %set, i64 {OTHER}
  store i64 %s, ptr %po
  br label %drop
mine:
  %ok = call i1 @emu.ordered(i64 %s, i64 %me)
  br i1 %ok, label %drop, label %end
drop:
  %new = select i1 %placed, i64 0, i64 %me
  store i64 %new, ptr %p
  ret i1 true
end:
  ret i1 %placed
}}
define linkonce_odr i1 @emu.keep(ptr %set, i64 %me) noinline nounwind {{
entry:
  %pb = getelementptr i8, ptr %set, i64 {SECOND}
  %p1 = call i1 @emu.replace(ptr %set, ptr %set, i64 %me, i1 false)
  %p2 = call i1 @emu.replace(ptr %set, ptr %pb, i64 %me, i1 %p1)
  br label %end
end:{end}
done:
  ret i1 true
}}"""


def _report(state):
    return f"""
define linkonce_odr void @emu.race(i64 %a, i64 %site, i64 %other) noinline nounwind {{
  store i32 {RACE}, ptr {_word(state, "failed")}
  %s = trunc i64 %site to i32
  store i32 %s, ptr {_word(state, "site")}
  store i64 %a, ptr {_word(state, "address")}
  store i64 %other, ptr {_word(state, "other")}
  ret void
}}"""


def _trace(layout, state, kind):
    reads, atomics = "%set", f"%p{layout.set_bytes + 8}"
    compared = {"load": [atomics], "store": [reads, atomics], "atomic": [reads], "observe": []}[kind]
    compared = [s for s in compared if layout.has_atomics or s == reads]
    steps = []
    for i, which in enumerate(compared):
        steps.append(f"""compare{i}:
  %c{i} = call i64 @emu.conflict(ptr {which}, i64 %me)
  %g{i} = icmp eq i64 %c{i}, 0
  br i1 %g{i}, label %compare{i + 1}, label %bad""")
    at = f"compare{len(compared)}"
    # What meets atomics would be in the way of those to come, and is kept only where there are none.
    kept = {"load": reads, "observe": None if layout.has_atomics else reads, "atomic": atomics}.get(kind)
    if kept:
        last = f"""{at}:
  %r1 = load i64, ptr {kept}
  %x1 = xor i64 %r1, %me
  %same1 = icmp ult i64 %x1, {1 << SITE_BITS}
  br i1 %same1, label %next, label %try
try:
  %pr2 = getelementptr i8, ptr {kept}, i64 {SECOND}
  %r2 = load i64, ptr %pr2
  %x2 = xor i64 %r2, %me
  %same2 = icmp ult i64 %x2, {1 << SITE_BITS}
  br i1 %same2, label %next, label %keep
keep:
  %room = call i1 @emu.keep(ptr {kept}, i64 %me)
  br i1 %room, label %next, label %failed"""
    elif kind == "store":
        last = f"{at}:\n  store i64 %me, ptr %cell\n  br label %next"
    else:
        last = f"{at}:\n  br label %next"
    wrong = "".join(f", [ %c{i}, %compare{i} ]" for i in range(len(compared)))
    second = f"\n  {atomics} = getelementptr i8, ptr %cell, i64 {layout.set_bytes + 8}" if layout.has_atomics else ""
    failed = "\nfailed:\n  ret i1 false" if kept else ""
    return f"""
define linkonce_odr i1 @emu.trace.{kind}(i64 %a, i64 %size, i64 %site, i64 %bias) alwaysinline nounwind {{
entry:
  %mine = load i64, ptr {_word(state, "me")}
  %me = or i64 %mine, %site
  %end0 = add i64 %a, %size
  %first = lshr i64 %a, {layout.shift}
  %end1 = add i64 %end0, {(1 << layout.shift) - 1}
  %end = lshr i64 %end1, {layout.shift}
  br label %loop
loop:
  %i = phi i64 [ %first, %entry ], [ %more, %next ]
  %go = icmp ult i64 %i, %end
  br i1 %go, label %begin, label %good
begin:
  %offset = mul i64 %i, {layout.cell_bytes}
  %where = add i64 %bias, %offset
  %cell = inttoptr i64 %where to ptr
  %set = getelementptr i8, ptr %cell, i64 8{second}
  %w = load i64, ptr %cell
  %ok = call i1 @emu.ordered(i64 %w, i64 %me)
  br i1 %ok, label %compare0, label %bad
{chr(10).join(steps)}
{last}
next:
  %more = add i64 %i, 1
  br label %loop
good:
  ret i1 true
bad:
  %other = phi i64 [ %w, %begin ]{wrong}
  %granule = shl i64 %i, {layout.shift}
  call void @emu.race(i64 %granule, i64 %site, i64 %other)
  ret i1 false{failed}
}}"""


def _check(kind):
    """Whether an access is inside a region, aligned, and in order with those before it."""
    changes = int(kind in ("store", "atomic"))
    return f"""
define linkonce_odr i1 @emu.check.{kind}(ptr %p, i64 %size, i64 %low, i32 %site, ptr %cache) noinline nounwind {{
entry:
  %a = ptrtoint ptr %p to i64
  %m = and i64 %a, %low
  %aligned = icmp eq i64 %m, 0
  %end = add i64 %a, %size
  %first = load i64, ptr %cache
  %limit = getelementptr i64, ptr %cache, i64 1
  %last = load i64, ptr %limit
  %above = icmp uge i64 %a, %first
  %below = icmp ule i64 %end, %last
  %inside = and i1 %above, %below
  %good = and i1 %inside, %aligned
  br i1 %good, label %known, label %search
known:
  %cells = getelementptr i64, ptr %cache, i64 2
  %kept = load i64, ptr %cells
  br label %found
search:
  %looked = call i64 @emu.find(i64 %a, i64 %end, i1 %aligned, i32 {changes}, i32 %site, ptr %cache)
  br label %found
found:
  %bias = phi i64 [ %kept, %known ], [ %looked, %search ]
  %traced = icmp ugt i64 %bias, {REFUSED}
  br i1 %traced, label %trace, label %untraced
untraced:
  %allowed = icmp eq i64 %bias, {UNTRACED}
  ret i1 %allowed
trace:
  %number = zext i32 %site to i64
  %order = call i1 @emu.trace.{kind}(i64 %a, i64 %size, i64 %number, i64 %bias)
  ret i1 %order
}}"""
