"""What every emulated kernel has besides its own code, as LLVM IR: its state, its memory, the check of an access."""

from .ptx import FAULT, MOST_SPINS, RUNNING, SLOT_WORDS, SPINNING, WORDS, constant
from .races import REFUSED, SITE_BITS, UNTRACED

REGION_WORDS = 5  # of a row of the table: start, end, rights, where its cells are, whether it was touched


def runtime(state, slots, status, sites, masks, regions, arena):
    """The functions that every kernel has: its slot, what it does on suspension, and the check of an access.

    The arguments are addresses, `arena` those where the memory of suspended threads begins and ends.
    """
    word = {name: constant(state + 4 * index) for name, index in WORDS.items()}
    return f"""
define linkonce_odr ptr @emu.slot() alwaysinline nounwind {{
  %t = load i32, ptr {word["thread"]}
  %w = zext i32 %t to i64
  %p = getelementptr [{SLOT_WORDS} x i32], ptr {constant(slots)}, i64 %w
  ret ptr %p
}}
define linkonce_odr ptr @emu.allocate(i64 %size) alwaysinline nounwind {{
  %up = add i64 %size, 63
  %whole = and i64 %up, -64
  %old = load i64, ptr {word["cursor"]}
  %new = add i64 %old, %whole
  store i64 %new, ptr {word["cursor"]}
  %p = inttoptr i64 %old to ptr
  ret ptr %p
}}
define linkonce_odr i1 @emu.failed() alwaysinline nounwind {{
  %v = load i32, ptr {word["failed"]}
  %b = icmp ne i32 %v, 0
  ret i1 %b
}}
define linkonce_odr i1 @emu.enter(i32 %t) alwaysinline nounwind {{
  %w = zext i32 %t to i64
  %p = getelementptr i32, ptr {constant(status)}, i64 %w
  %s = load i32, ptr %p
  %runs = icmp eq i32 %s, {RUNNING}
  br i1 %runs, label %set, label %end
set:
  store i32 %t, ptr {word["thread"]}
  %round = load i64, ptr {word["round"]}
  %mine = shl i64 %w, {SITE_BITS}
  %me = or i64 %round, %mine
  store i64 %me, ptr {word["me"]}
  %nx = load i32, ptr {word["ntid.x"]}
  %ny = load i32, ptr {word["ntid.y"]}
  %x = urem i32 %t, %nx
  %q = udiv i32 %t, %nx
  %y = urem i32 %q, %ny
  %z = udiv i32 %q, %ny
  store i32 %x, ptr {word["tid.x"]}
  store i32 %y, ptr {word["tid.y"]}
  store i32 %z, ptr {word["tid.z"]}
  br label %end
end:
  ret i1 %runs
}}
define linkonce_odr i32 @emu.dynamic() alwaysinline nounwind {{
  %v = load i32, ptr {word["dynamic"]}
  ret i32 %v
}}
define linkonce_odr void @emu.arrive(i32 %kind, i32 %mask, i32 %site) alwaysinline nounwind {{
  %t = load i32, ptr {word["thread"]}
  %w = zext i32 %t to i64
  %p = getelementptr i32, ptr {constant(status)}, i64 %w
  store i32 %kind, ptr %p
  %q = getelementptr i32, ptr {constant(sites)}, i64 %w
  store i32 %site, ptr %q
  %r = getelementptr i32, ptr {constant(masks)}, i64 %w
  store i32 %mask, ptr %r
  ret void
}}
declare ptr @llvm.frameaddress.p0(i32)
define linkonce_odr i64 @emu.find(i64 %a, i64 %end, i1 %aligned, i32 %write, i32 %site, ptr %cache) noinline nounwind {{
entry:
  br i1 %aligned, label %begin, label %bad
begin:
  %n32 = load i32, ptr {word["regions"]}
  %n = zext i32 %n32 to i64
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %step ]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %test, label %private
test:
  %r = getelementptr [{REGION_WORDS} x i64], ptr {constant(regions)}, i64 %i
  %first = load i64, ptr %r
  %p1 = getelementptr i64, ptr %r, i64 1
  %last = load i64, ptr %p1
  %p2 = getelementptr i64, ptr %r, i64 2
  %rights64 = load i64, ptr %p2
  %rights = trunc i64 %rights64 to i32
  %above = icmp uge i64 %a, %first
  %below = icmp ule i64 %end, %last
  %inside = and i1 %above, %below
  %allowed = icmp uge i32 %rights, %write
  %hit = and i1 %inside, %allowed
  br i1 %hit, label %keep, label %step
step:
  %next = add i64 %i, 1
  br label %loop
keep:
  store i64 %first, ptr %cache
  %limit = getelementptr i64, ptr %cache, i64 1
  store i64 %last, ptr %limit
  %p3 = getelementptr i64, ptr %r, i64 3
  %bias = load i64, ptr %p3
  %cells = getelementptr i64, ptr %cache, i64 2
  store i64 %bias, ptr %cells
  %p4 = getelementptr i64, ptr %r, i64 4
  store i64 1, ptr %p4
  ret i64 %bias
private:  ; the thread's own: what it keeps on the stack of this process, or while it is suspended
  %from = icmp uge i64 %a, {arena[0]}
  %to = icmp ule i64 %end, {arena[1]}
  %suspended = and i1 %from, %to
  %frame = call ptr @llvm.frameaddress.p0(i32 0)
  %f = ptrtoint ptr %frame to i64
  %low = sub i64 %f, 65536
  %high = add i64 %f, 1048576
  %s1 = icmp ugt i64 %a, %low
  %s2 = icmp ult i64 %end, %high
  %stack = and i1 %s1, %s2
  %own = or i1 %stack, %suspended
  br i1 %own, label %fine, label %bad
fine:
  ret i64 {UNTRACED}
bad:
  store i32 {FAULT}, ptr {word["failed"]}
  store i32 %site, ptr {word["site"]}
  store i64 %a, ptr {word["address"]}
  ret i64 {REFUSED}
}}
define linkonce_odr i1 @emu.spin() alwaysinline nounwind {{
  %old = load i32, ptr {word["spins"]}
  %new = add i32 %old, 1
  store i32 %new, ptr {word["spins"]}
  %good = icmp ult i32 %new, {MOST_SPINS}
  br i1 %good, label %ok, label %bad
ok:
  ret i1 true
bad:
  store i32 {SPINNING}, ptr {word["failed"]}
  ret i1 false
}}
define linkonce_odr i1 @emu.within(ptr %p, i64 %size, ptr %base, i64 %extent, i32 %site) alwaysinline nounwind {{
  %a = ptrtoint ptr %p to i64
  %b = ptrtoint ptr %base to i64
  %offset = sub i64 %a, %b
  %room = sub i64 %extent, %size
  %good = icmp ule i64 %offset, %room
  br i1 %good, label %ok, label %bad
ok:
  ret i1 true
bad:
  store i32 {FAULT}, ptr {word["failed"]}
  store i32 %site, ptr {word["site"]}
  store i64 %offset, ptr {word["address"]}
  ret i1 false
}}
"""
