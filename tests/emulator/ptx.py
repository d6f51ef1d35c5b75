"""What a GPU provides to a kernel, as LLVM IR for the CPU: special registers, collectives, arithmetic, inline PTX.

`define` writes the definition of one function that a kernel calls.  Collectives (barriers, shuffles, tensor cores)
leave their operands in the slot of their thread and suspend it; the scheduler in `warp.py` puts the results
there before it goes on.
"""

import re

SLOT_WORDS = 32
# What a suspended thread waits for.
RUNNING, BARRIER, SYNC, SHUFFLE, VOTE, MATCH, MMA, DONE = range(8)
NAMES = {BARRIER: "barrier", SYNC: "syncwarp", SHUFFLE: "shuffle", VOTE: "vote", MATCH: "match", MMA: "mma"}
ORDERING = (NAMES[BARRIER], NAMES[SYNC])  # CUDA promises no order of memory for the others
FAULT, SPINNING, RACE, EXHAUSTED = 1, 2, 3, 4  # why a thread ended before its time
MOST_SPINS = 20_000_000  # atomic accesses between two barriers: more are a loop that waits
MAX_THREADS = 1024  # of a block
ALL, ANY, UNIFORM, BALLOT = range(4)  # of votes
EVERYONE, SOME = "-1", "0"  # in the place of the mask, at barriers

# The words of the state that the scheduler and the kernel share.
REGISTERS = [f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"]
WORDS = {
    name: index for index, name in enumerate([*REGISTERS, "thread", "dynamic", "failed", "site", "regions", "spins"])
}
# 64 bits; the rest 32.  Stamps of accesses (`races.py`): the present thread's, the first of this launch, the first of
# this block, the first since its last barrier, the round's, and the one that a race is with.
WIDE = ["address", "cursor", "me", "launch", "block", "ordered", "round", "other", "nodes"]
WORDS |= {name: 18 + 2 * index for index, name in enumerate(WIDE)}


def constant(address: int) -> str:
    """An address that is known when the kernel is compiled, as a constant of LLVM."""
    return f"inttoptr (i64 {address} to ptr)"


def _function(ret, name, args, body, attributes="alwaysinline nounwind"):
    parameters = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(args))
    return f'define linkonce_odr {ret} @"{name}"({parameters}) {attributes} {{\n{body}\n}}\n'


def _read(ret, word, state):
    return f"%v = load i32, ptr {constant(state + 4 * WORDS[word])}\nret i32 %v"


def _collective(ret, args, kind, mask, words):
    """Leave `words` (indexes of arguments, or numbers as strings) in the slot, suspend, take the results."""
    lines, at = ["%slot = call ptr @emu.slot()"], 0

    def put(value):
        nonlocal at
        lines.append(f"%p{at} = getelementptr i32, ptr %slot, i64 {at}")
        lines.append(f"store i32 {value}, ptr %p{at}")
        at += 1

    for n, word in enumerate(words):
        if isinstance(word, str):
            put(word)
            continue
        source = f"%a{word}"
        if args[word] == "i1":
            lines.append(f"%z{n} = zext i1 {source} to i32")
            put(f"%z{n}")
        elif args[word] == "float":
            lines.append(f"%z{n} = bitcast float {source} to i32")
            put(f"%z{n}")
        elif args[word] == "i64":
            lines += [f"%l{n} = trunc i64 {source} to i32", f"%s{n} = lshr i64 {source}, 32"]
            lines.append(f"%h{n} = trunc i64 %s{n} to i32")
            put(f"%l{n}")
            put(f"%h{n}")
        else:
            put(source)
    lines.append(f"call void @emu.suspend(i32 {kind}, i32 {mask})")
    if ret == "void":
        return "\n".join([*lines, "ret void"])
    lines.append("%back = call ptr @emu.slot()")
    parts = [part.strip() for part in ret.strip("{} ").split(",")]
    value = "undef"
    for n, part in enumerate(parts):
        lines.append(f"%q{n} = getelementptr i32, ptr %back, i64 {n}")
        lines.append(f"%w{n} = load i32, ptr %q{n}")
        convert = {"i32": "add i32 0, %w{0}", "i1": "icmp ne i32 %w{0}, 0", "float": "bitcast i32 %w{0} to float"}
        lines.append(f"%r{n} = {convert[part].format(n)}")
        if len(parts) > 1:
            lines.append(f"%t{n} = insertvalue {ret} {value}, {part} %r{n}, {n}")
            value = f"%t{n}"
    lines.append(f"ret {ret} {value if len(parts) > 1 else '%r0'}")
    return "\n".join(lines)


_CONTROL = {  # name: (kind, the mask or the argument that is it, the words)
    "barrier0": (BARRIER, EVERYONE, ("0", "0", "0")),
    "barrier.cta.sync.all": (BARRIER, EVERYONE, (0, "0", "0")),
    "barrier.cta.sync.aligned.all": (BARRIER, EVERYONE, (0, "0", "0")),
    "barrier.cta.sync.count": (BARRIER, SOME, (0, 1, "0")),
    "barrier.cta.sync.aligned.count": (BARRIER, SOME, (0, 1, "0")),
    "barrier0.popc": (BARRIER, EVERYONE, ("0", "0", 0, "0")),
    "barrier0.and": (BARRIER, EVERYONE, ("0", "0", 0, "1")),
    "barrier0.or": (BARRIER, EVERYONE, ("0", "0", 0, "2")),
    "bar.warp.sync": (SYNC, 0, ()),
    "shfl.sync.i32": (SHUFFLE, 0, (1, 2, 3, 4)),
    "vote.sync": (VOTE, 0, (1, 2)),
    "match.any.sync.i32": (MATCH, 0, (1, "0", "0")),
    "match.all.sync.i32": (MATCH, 0, (1, "0", "1")),
    "match.any.sync.i64": (MATCH, 0, (1, "0")),
    "match.all.sync.i64": (MATCH, 0, (1, "1")),
}
_ORDER = {"rz": "trunc", "rm": "floor", "rp": "ceil", "rn": "roundeven"}
_WIDTH = {"f": 32, "d": 64, "i": 32, "ui": 32, "ll": 64, "ull": 64}


def _arithmetic(name, ret, args):
    """One of NVVM's rounded or approximate operations, rounded exactly; None where it is none of them."""
    bits = {"float": "f32", "double": "f64"}.get(ret)
    operands = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(args))
    if found := re.fullmatch(r"(add|mul|div)\.(?:rn|approx|full)(?:\.ftz)?\.[fd]", name):
        return f"%v = f{found[1]} {ret} %a0, %a1\nret {ret} %v"
    if re.fullmatch(r"rcp\.(?:rn|approx)(?:\.ftz)?\.[fd]", name):
        return f"%v = fdiv {ret} 1.0, %a0\nret {ret} %v"
    if re.fullmatch(r"rsqrt\.approx(?:\.ftz)?\.[fd]", name):
        return f"%s = call {ret} @llvm.sqrt.{bits}({operands})\n%v = fdiv {ret} 1.0, %s\nret {ret} %v"
    if re.fullmatch(r"saturate(?:\.ftz)?\.[fd]", name):
        low = f"%l = call {ret} @llvm.maxnum.{bits}({operands}, {ret} 0.0)"
        return f"{low}\n%v = call {ret} @llvm.minnum.{bits}({ret} %l, {ret} 1.0)\nret {ret} %v"
    if found := re.fullmatch(r"(fma|add|mul)\.(rm|rp|rz)(?:\.ftz)?\.f", name):
        return _directed(found[1], found[2])
    host = {"fmin": "minnum", "fmax": "maxnum", "round": "roundeven", "ex2": "exp2", "lg2": "log2"}
    same = r"(fma|sqrt|fabs|floor|ceil|trunc|round|fmin|fmax|ex2|lg2|sin|cos|tanh)(?:\.rn|\.approx)?(?:\.ftz)?\.[fd]\d*"
    if found := re.fullmatch(same, name):
        return f"%v = call {ret} @llvm.{host.get(found[1], found[1])}.{bits}({operands})\nret {ret} %v"
    if name.startswith("mulhi"):
        wide, extend = ("i128" if ret == "i64" else "i64"), ("zext" if name.endswith(("ui", "ull")) else "sext")
        lines = [f"%x{i} = {extend} {ret} %a{i} to {wide}" for i in range(2)]
        lines += [f"%m = mul {wide} %x0, %x1", f"%h = lshr {wide} %m, {ret[1:]}", f"%v = trunc {wide} %h to {ret}"]
        return "\n".join([*lines, f"ret {ret} %v"])
    return _conversion(name, ret, args)


def _directed(operation, mode):
    """A float32 operation rounded down, up, or to zero: to nearest, then a step back where that went too far."""
    a, b, c = {"fma": ("a0", "a1", "a2"), "add": ("a0", "", "a1"), "mul": ("a0", "a1", "")}[operation]
    lines = [f"%{n} = fpext float %{x} to double" for n, x in zip("xyz", (a, b, c), strict=True) if x]
    lines += [f"%{n} = fadd double {v}, 0.0" for n, x, v in (("y", b, "1.0"), ("z", c, "0.0")) if not x]
    lines += ["%p = fmul double %x, %y", "%s = fadd double %p, %z"]  # the product is exact, and the sum is s + e
    lines += ["%v = fsub double %s, %p", "%w = fsub double %s, %v", "%d = fsub double %p, %w"]
    lines += ["%f = fsub double %z, %v", "%e = fadd double %d, %f"]
    exact = {"fma": "call float @llvm.fma.f32(float %a0, float %a1, float %a2)"}
    lines.append(f"%r = {exact.get(operation, f'f{operation} float %a0, %a1')}")
    lines += ["%g = fpext float %r to double", "%h = fsub double %s, %g", "%t = fadd double %h, %e"]
    lines += ["%above = fcmp olt double %t, 0.0", "%below = fcmp ogt double %t, 0.0"]
    lines += ["%i = bitcast float %r to i32", "%n = icmp slt i32 %i, 0", "%less = add i32 %i, -1"]
    lines += ["%more = add i32 %i, 1", "%zero = fcmp oeq float %r, 0.0"]
    lines += ["%down0 = select i1 %n, i32 %more, i32 %less", "%down = select i1 %zero, i32 -2147483647, i32 %down0"]
    lines += ["%up0 = select i1 %n, i32 %less, i32 %more", "%up = select i1 %zero, i32 1, i32 %up0"]
    if mode == "rz":  # down where it is positive, and up where it is negative
        lines += ["%positive = xor i1 %n, true", "%back = and i1 %above, %positive", "%forth = and i1 %below, %n"]
    else:
        lines += [f"%back = and i1 %above, {str(mode == 'rm').lower()}"]
        lines += [f"%forth = and i1 %below, {str(mode == 'rp').lower()}"]
    lines += ["%k = select i1 %back, i32 %down, i32 %i", "%l = select i1 %forth, i32 %up, i32 %k"]
    return "\n".join([*lines, "%q = bitcast i32 %l to float", "ret float %q"])


def _conversion(name, ret, args):
    if name == "d2i.lo":
        return "%b = bitcast double %a0 to i64\n%v = trunc i64 %b to i32\nret i32 %v"
    if name == "d2i.hi":
        return "%b = bitcast double %a0 to i64\n%h = lshr i64 %b, 32\n%v = trunc i64 %h to i32\nret i32 %v"
    if name == "lohi.i2d":
        parts = "%l = zext i32 %a0 to i64\n%h = zext i32 %a1 to i64\n%s = shl i64 %h, 32\n%o = or i64 %s, %l"
        return f"{parts}\n%v = bitcast i64 %o to double\nret double %v"
    if name.startswith("f2h.rn"):
        return "%h = fptrunc float %a0 to half\n%v = bitcast half %h to i16\nret i16 %v"
    if name.startswith("d2f.rn"):
        return "%v = fptrunc double %a0 to float\nret float %v"
    if found := re.fullmatch(r"([fd])2(i|ui|ll|ull)\.(rn|rz|rm|rp)(?:\.ftz)?", name):
        kind, bits = args[0], _WIDTH[found[1]]
        whole = f"%w = call {kind} @llvm.{_ORDER[found[3]]}.f{bits}({kind} %a0)"
        sign = "u" if found[2].startswith("u") else "s"
        return f"{whole}\n%v = call {ret} @llvm.fpto{sign}i.sat.{ret}.f{bits}({kind} %w)\nret {ret} %v"
    if found := re.fullmatch(r"(i|ui|ll|ull)2([fd])\.rn", name):
        return f"%v = {'u' if found[1].startswith('u') else 's'}itofp {args[0]} %a0 to {ret}\nret {ret} %v"
    return None


def define(name, ret, args, state):
    """The definition of a function that the kernel calls, or None where it is unknown.  `state`: the shared words."""
    if found := re.fullmatch(r"_Z(pl|mi|ml|dv)RK6__halfS1__nbst", name):  # arithmetic of numba's float16
        operation = {"pl": "fadd", "mi": "fsub", "ml": "fmul", "dv": "fdiv"}[found[1]]
        read = "%x = load half, ptr %a1, align 2\n%y = load half, ptr %a2, align 2"
        body = f"{read}\n%r = {operation} half %x, %y\nstore half %r, ptr %a0, align 2\nret i32 0"
        return _function(ret, name, args, body)
    if not name.startswith("nvvm."):
        return None
    short = name.removeprefix("nvvm.")
    if short.startswith("read.ptx.sreg."):
        register = short.removeprefix("read.ptx.sreg.")
        if register == "warpsize":
            return _function(ret, name, args, "ret i32 32")
        if register == "laneid":
            thread = _read(ret, "thread", state).splitlines()[0]
            return _function(ret, name, args, f"{thread}\n%l = and i32 %v, 31\nret i32 %l")
        return _function(ret, name, args, _read(ret, register, state)) if register in WORDS else None
    if short in _CONTROL:
        kind, mask, words = _CONTROL[short]
        operand = mask if isinstance(mask, str) else f"%a{mask}"
        return _function(ret, name, args, _collective(ret, args, kind, operand, words))
    if short.startswith(("membar.", "fence.")):
        return _function(ret, name, args, "ret void")
    if found := re.match(r"atomic\.load\.(add|inc|dec)\.", short):
        operation = {"add": "fadd", "inc": "uinc_wrap", "dec": "udec_wrap"}[found[1]]
        return _function(ret, name, args, f"%v = atomicrmw {operation} ptr %a0, {ret} %a1 monotonic\nret {ret} %v")
    body = _arithmetic(short, ret, args)
    return body and _function(ret, name, args, body)


def _half(count, operation):
    """An operation on numbers of half precision, whose bits travel as integers."""
    lines = [f"%h{i} = bitcast i16 %a{i} to half" for i in range(count)]
    return "\n".join([*lines, f"%r = {operation}", "%v = bitcast half %r to i16", "ret i16 %v"])


def define_asm(name, text, ret, args):
    """The definition of a piece of inline PTX with these types."""
    ptx = " ".join(text.replace("\\0A", " ").replace("\\09", " ").split()).strip("{} ").rstrip(";").strip()
    body = None
    if ptx == "mov.u32 $0, %dynamic_smem_size":
        body = "%v = call i32 @emu.dynamic()\nret i32 %v"
    elif re.fullmatch(r"(rcp|tanh|ex2|lg2|rsqrt|sqrt|sin|cos)\.approx(\.ftz)?\.f32 \$0, ?\$1", ptx):
        body = _arithmetic(ptx.split(" ")[0].replace("f32", "f"), ret, args)
    elif ptx.startswith("mad.lo.cc.u32"):  # of libdevice: a 64-bit product and sum
        wide = [f"%x{i} = zext i32 %a{i} to i64" for i in range(3)]
        wide += ["%m = mul i64 %x0, %x1", "%s = add i64 %m, %x2", "%l = trunc i64 %s to i32", "%u = lshr i64 %s, 32"]
        wide += ["%h = trunc i64 %u to i32", f"%p = insertvalue {ret} undef, i32 %l, 0"]
        body = "\n".join([*wide, f"%v = insertvalue {ret} %p, i32 %h, 1", f"ret {ret} %v"])
    elif ptx.startswith(".reg .u32 r0, r1, r2, r3, alo"):  # of libdevice: a 128-bit product and sum
        wide = [f"%x{i} = zext i64 %a{i} to i128" for i in range(len(args))]
        wide += ["%m = mul i128 %x0, %x1", f"%s = add i128 %m, {'%x2' if len(args) > 2 else '0'}"]
        wide += ["%l = trunc i128 %s to i64", "%u = lshr i128 %s, 64", "%h = trunc i128 %u to i64"]
        wide += [f"%p = insertvalue {ret} undef, i64 %l, 0", f"%v = insertvalue {ret} %p, i64 %h, 1"]
        body = "\n".join([*wide, f"ret {ret} %v"])
    elif ptx.startswith(".reg .u32 r0, r1, r2, r3, a0, a1"):  # of libdevice: a 128-bit sum or difference
        wide = [f"%x{i} = zext i64 %a{i} to i128" for i in range(4)]
        wide += [f"%y{i} = shl i128 %x{i + 1}, 64\n%z{i} = or i128 %x{i}, %y{i}" for i in (0, 2)]
        wide += [f"%s = {'sub' if 'sub.cc' in ptx else 'add'} i128 %z0, %z2"]
        wide += ["%l = trunc i128 %s to i64", "%u = lshr i128 %s, 64", "%h = trunc i128 %u to i64"]
        wide += [f"%p = insertvalue {ret} undef, i64 %l, 0", f"%v = insertvalue {ret} %p, i64 %h, 1"]
        body = "\n".join([*wide, f"ret {ret} %v"])
    elif ptx in ("cvt.rna.tf32.f32 $0, $1", "cvt.rna.satfinite.tf32.f32 $0, $1"):
        body = _to_tf32(ret, args[0])
    elif found := re.fullmatch(r"cvt\.(?:rni?\.)?([fsu]\d+)\.([fsu]\d+) \$0, ?\$1", ptx):
        body = _convert_half(found[1], found[2], ret)
    elif found := re.fullmatch(r"(add|sub|mul)(?:\.rn)?\.f16 \$0, ?\$1, ?\$2", ptx):
        body = _half(2, f"f{found[1]} half %h0, %h1")
    elif re.fullmatch(r"fma\.rn\.f16 \$0, ?\$1, ?\$2, ?\$3", ptx):
        body = _half(3, "call half @llvm.fma.f16(half %h0, half %h1, half %h2)")
    elif found := re.match(r"mma\.sync\.aligned\.m16n8k(\d+)\.row\.col\.f32\.(tf32|f16|bf16)\.\2\.f32 ", ptx):
        code = str({"tf32": 0, "f16": 1, "bf16": 2}[found[2]])
        body = _collective(ret, args, MMA, "-1", (code, found[1], *range(len(args))))
    elif found := re.fullmatch(r"bar\.sync \$0(, ?\$1)?", ptx):
        words = (0, 1 if found[1] else "0", "0")
        body = _collective(ret, args, BARRIER, SOME if found[1] else EVERYONE, words)
    elif found := re.fullmatch(r"(?:bar|barrier)\.sync(?:\.aligned)? (\d+)(?:, ?(\d+))?", ptx):
        words = (found[1], found[2] or "0", "0")
        body = _collective(ret, args, BARRIER, SOME if found[2] else EVERYONE, words)
    elif re.fullmatch(r"(nanosleep\.u32 \$0|(membar|fence)\.[\w.:]+|prefetch\.[\w.:]+ \[\$0\])", ptx):
        body = "ret void"
    elif found := re.fullmatch(r"ld(?:\.global|\.shared)?(?:\.\w+)*\.[bfsu](\d+) \$0, ?\[\$1\]", ptx):
        body = f"%p = {_pointer(args[0], 0)}\n%v = load {_strength(ptx)}{ret}, ptr %p\nret {ret} %v"
    elif found := re.fullmatch(r"st(?:\.global|\.shared)?(?:\.\w+)*\.[bfsu](\d+) \[\$0\], ?\$1", ptx):
        body = f"%p = {_pointer(args[0], 0)}\nstore {_strength(ptx)}{args[1]} %a1, ptr %p\nret void"
    return body and _function(ret, name, args, body)


def _strength(ptx):
    """Whether an access may meet atomics: `.volatile`, `.relaxed`, `.acquire`, `.release`."""
    return "volatile " if re.match(r"(ld|st)\.(volatile|relaxed|acquire|release)", ptx) else ""


def _pointer(kind, index):
    return f"bitcast ptr %a{index} to ptr" if kind == "ptr" else f"inttoptr {kind} %a{index} to ptr"


def _to_tf32(ret, kind):
    """Round to 10 bits of mantissa, ties away from zero; the bits may travel as an integer or as a float."""
    lines = [f"%b = {'bitcast float' if kind == 'float' else 'add i32 0,'} %a0{' to i32' if kind == 'float' else ''}"]
    lines += ["%e = and i32 %b, 2139095040", "%s = icmp eq i32 %e, 2139095040", "%u = add i32 %b, 4096"]
    lines += ["%m = and i32 %u, -8192", "%k = select i1 %s, i32 %b, i32 %m"]
    lines.append("%v = bitcast i32 %k to float" if ret == "float" else "%v = add i32 0, %k")
    return "\n".join([*lines, f"ret {ret} %v"])


def _convert_half(to, source, ret):
    """To and from half precision, whose bits travel as an integer; None where neither side is one."""
    names = {"f16": "half", "f32": "float", "f64": "double"}
    if source == "f16":
        start = "%x = bitcast i16 %a0 to half"
        if to in names:
            return f"{start}\n%v = fpext half %x to {ret}\nret {ret} %v"
        whole = "%w = call half @llvm.roundeven.f16(half %x)"
        call = f"%v = call {ret} @llvm.fpto{to[0]}i.sat.{ret}.f16(half %w)"
        return f"{start}\n{whole}\n{call}\nret {ret} %v"
    if to != "f16":
        return None
    how = f"fptrunc {names[source]}" if source in names else f"{source[0]}itofp i{source[1:]}"
    return f"%r = {how} %a0 to half\n%v = bitcast half %r to i16\nret i16 %v"
