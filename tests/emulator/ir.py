"""From the LLVM IR that numba-cuda makes for a kernel to a program that runs it on the CPU, thread by thread.

Each thread is a coroutine of LLVM: a barrier suspends it.  Every access to memory is checked first.  llvmlite has no
way to rewrite instructions, so that this works on the text of the IR.
"""

import functools
import re
from pathlib import Path

import llvmlite.binding as llvm

from . import ptx

HOST_INTRINSIC = re.compile(r"llvm\.(?!nvvm\.)")
_QUOTED = re.compile(r'c?"[^"]*"')


class Mask:
    """Quoted strings out of the way of regular expressions, and back."""

    def __init__(self):
        self.strings = []

    def hide(self, text):
        def put(match):
            self.strings.append(match[0])
            return f"\u00a7{len(self.strings) - 1}\u00a7"

        return _QUOTED.sub(put, text)

    def show(self, text):
        return re.sub("\u00a7(\\d+)\u00a7", lambda match: self.strings[int(match[1])], text)


def opaque_pointers(text):
    """`float*`, `{i8*, i64}*`, `void (i32)*` ... as `ptr`; strings must be hidden."""
    return "\n".join(_opaque(line) if "*" in line else line for line in text.splitlines())


def _opaque(line):
    first, *others = line.split("*")
    out = first
    for piece in others:
        out = re.sub(r" ?addrspace\(\d+\)\s*$", "", kept := out.rstrip())
        space = kept[len(out) :]
        start = len(out)
        while out[start - 1] in "]})>":
            function, depth, start = out[start - 1] == ")", 1, start - 1
            while depth:
                start -= 1
                depth += (out[start] in "]})>") - (out[start] in "[{(<")
            if not function:
                break
            start = len(out[:start].rstrip())  # the result of a function stands before its arguments
        else:
            start = re.search(r"[%\w.\u00a7-]+$", out[:start]).start()
        out = f"{out[:start]}ptr{space}{piece}"
    return out


def split(text):
    """The parts between the commas that stand in no bracket."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        if c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    return [*parts, text[begin:].strip()] if text.strip() else []


def size_of(kind):
    """The bytes of a type."""
    kind = kind.strip()
    simple = {"ptr": 8, "half": 2, "bfloat": 2, "float": 4, "double": 8}
    if kind in simple:
        return simple[kind]
    if re.fullmatch(r"i\d+", kind):
        return 1 << max(0, (int(kind[1:]) + 7) // 8 - 1).bit_length()
    if found := re.fullmatch(r"[\[<](\d+) x (.*)[\]>]", kind):
        return int(found[1]) * size_of(found[2])
    if kind.startswith("{"):
        total, largest = 0, 1
        for part in split(kind[1:-1]):
            align = min(_align_of(part), 16)
            total, largest = -(-total // align) * align + size_of(part), max(largest, align)
        return -(-total // largest) * largest
    raise NotImplementedError(f"the size of {kind}")


def _align_of(kind):
    if kind.startswith("["):
        return _align_of(kind.split(" x ", 1)[1][:-1])
    if kind.startswith("{"):
        return max((_align_of(part) for part in split(kind[1:-1])), default=1)
    return size_of(kind)


@functools.cache
def _libdevice():
    """NVIDIA's functions of mathematics, as the text of each, of its constants, and of what it declares."""
    from numba.cuda.cudadrv.libs import get_libdevice

    text = str(llvm.parse_bitcode(Path(get_libdevice()).read_bytes()))
    text = re.sub(r" #\d+", "", re.sub(r", ![\w.]+ !\d+|addrspace\(\d+\) ?", "", text))
    functions = {}
    for found in re.finditer(r"^define (?:internal )?([^@]*@([\w.]+)\([^\n]*) \{\n.*?^\}$", text, re.M | re.S):
        body = found[0].split("\n", 1)[1]
        head = re.sub(r"^(?:internal |linkonce_odr )*", "", found[1])
        functions[found[2]] = f"define linkonce_odr {head} alwaysinline nounwind {{\n{body}\n"
    types = re.findall(r"^%struct[^\n]*$", text, re.M)
    constants = dict(re.findall(r"^(@[\w.]+) = ([^\n]*)$", text, re.M))
    declared = {n: line for line, n in re.findall(r"^(declare [^@\n]*@([\w.]+)\([^\n]*)$", text, re.M)}
    return functions, types, constants, declared


def _needed_libdevice(names):
    """The text of these functions and all that they use."""
    functions, types, constants, declared = _libdevice()
    done, todo, used, out = set(), [n for n in names if n in functions], {}, []
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        if name in functions:
            out.append(functions[name])
            todo += re.findall(r"@([\w.]+)\(", functions[name])
            used |= {g: constants[g] for g in re.findall(r"@[\w.]+", functions[name]) if g in constants}
        elif name in declared:
            out.append(declared[name])
    flags = {"__CUDA_FTZ": 0, "__CUDA_PREC_SQRT": 1, "__CUDA_ARCH": 900}
    strings = {g: v for g in used if (v := re.search(r'c"(\w+)\\00"', used[g]))}
    text = "\n".join([*types, *(f"{g} = {v}" for g, v in used.items()), *out])

    def reflect(match):
        found = strings.get(match[1])
        return f"add i32 0, {flags.get(found[1], 0) if found else 0}"

    return re.sub(r"call i32 @__nvvm_reflect\(ptr (@[\w.]+)\)", reflect, text)


def _rename(text):
    return re.sub(r"@(\"?)llvm\.nvvm\.", r"@\1nvvm.", text)


class _Asm:
    """Calls of inline PTX become calls of functions."""

    def __init__(self, strings):
        self.strings, self.functions = strings, {}

    def replace(self, text):
        pattern = (
            r"(call|call [\w ]+) (\{[^}]*\}|[\w]+) asm +(?:sideeffect |alignstack )*(\u00a7\d+\u00a7), "
            r"\u00a7\d+\u00a7 ?(\(.*?\))(?: convergent)?(?=$|,| #|\n)"
        )
        return re.sub(pattern, self._call, text, flags=re.M)

    def _call(self, match):
        ptx_text = self.strings.show(match[3])[1:-1]
        args = [type_of(part) for part in split(match[4][1:-1])]
        key = (ptx_text, match[2], tuple(args))
        name = self.functions.setdefault(key, f"emu.asm.{len(self.functions)}")
        return f"call {match[2]} @{name}{match[4]}"


def type_of(operand):
    """The type in `float %x`, `{ i32, i1 } %y`, `ptr noundef %z`."""
    if operand[0] in "{[<":
        depth = 0
        for i, c in enumerate(operand):
            depth += (c in "{[<") - (c in "}]>")
            if depth == 0:
                return operand[: i + 1]
    return operand.split()[0]


def host(texts, kernel, addresses):
    """The modules of numba-cuda as one text for the CPU.  `addresses` says where shared memory lies, by its name."""
    from numba.cuda.cudadrv import nvvm

    out, functions = [], {}
    unused = re.compile(r'^(target|!nvvm|source_filename|; ModuleID|@"?llvm\.).*$', flags=re.M)
    for text in texts:
        text = unused.sub("", nvvm.llvm_replace(text))
        text = re.sub(r'^(  call|declare) void @"?llvm\.dbg\..*$', "", text, flags=re.M)
        strings = Mask()
        text = opaque_pointers(strings.hide(text))
        asm = _Asm(strings)
        text = asm.replace(text)
        if left := re.search(r"^.* asm .*$", text, flags=re.M):
            raise NotImplementedError(f"inline PTX in {strings.show(left[0])}")
        text = strings.show(text)
        text = re.sub(r"^@.*addrspace\(3\).*$", "", text, flags=re.M)
        for name, address in addresses.items():
            text = re.sub(rf'@"?{re.escape(name)}"?(?![\w."])', ptx.constant(address), text)
        text = re.sub(r" ?addrspace\(\d+\)", "", text).replace("addrspacecast", "bitcast")
        text = re.sub(r"^!.*\bptr @.*$", "", text, flags=re.M)
        # What is called is merged into the kernel: suspending must happen there.
        text = re.sub(r"^(define [^{]*?)\{?$", _inline(kernel), text, flags=re.M)
        prefix = len(functions)
        for (source, ret, args), name in asm.functions.items():
            text = text.replace(f"@{name}(", f"@{name}.{prefix}(")
            functions[f"{name}.{prefix}"] = (source, ret, args)
            text += f"\ndeclare {ret} @{name}.{prefix}({', '.join(args)})"
        out.append(_rename(text))
    return out, functions


def _inline(kernel):
    def change(match):
        line, brace = match[1].rstrip(), "{" if match[0].rstrip().endswith("{") else ""
        line, debug = re.fullmatch(r"(.*?)( !dbg !\d+)?", line).groups(default="")
        line, brace = re.sub(r" (noinline|optnone|alwaysinline)\b", "", line), f"{debug} {brace}"
        if f'"{kernel}"' in line or f"@{kernel}(" in line:
            return f"{line} {brace}"
        return f"{line} alwaysinline {brace}"

    return change


def shared_arrays(texts):
    """Name: (bytes, alignment) of each array in shared memory; 0 bytes for those whose size the launch gives."""
    found = {}
    for text in texts:
        strings = Mask()
        for line in opaque_pointers(strings.hide(text)).splitlines():
            pattern = r"@(\S+) = .*?addrspace\(3\) (?:global|constant) (\[.*\]|\S+)(?: \S+)?, align (\d+)"
            if match := re.match(pattern, line):
                kind = match[2] if match[2].count("[") == match[2].count("]") else match[2][: match[2].rindex("]") + 1]
                found[strings.show(match[1]).strip('"')] = (size_of(kind), int(match[3]))
            elif re.match(r"@\S+ = .*addrspace\(3\)", line):
                raise NotImplementedError(f"shared memory declared as {strings.show(line)}")
    return found


def undefined(text):
    """(name, result, arguments) of what a module's text declares but LLVM does not know."""
    found = []
    for line in re.findall(r"^declare (.*)$", text, flags=re.M):
        match = re.match(r'(?:[\w() ]*? )?(\{.*?\}|[\w]+) @"?([^"(]+)"?\((.*?)\)', line)
        if match and not HOST_INTRINSIC.match(match[2]) and not match[2].startswith("emu.suspend"):
            found.append((match[2], match[1], [type_of(part) for part in split(match[3])]))
    return found


def library(texts, asm, state):
    """Definitions of all that the modules call and that is known; what is not, and is used, is refused later."""
    names = {name for text in texts for name, _, _ in undefined(text)}
    device = _rename(_needed_libdevice(sorted(names)))
    strings = Mask()
    replacer = _Asm(strings)
    device = strings.show(replacer.replace(strings.hide(device))).replace("@emu.asm.", "@emu.asm.d")
    asm = asm | {name.replace("emu.asm.", "emu.asm.d"): key for key, name in replacer.functions.items()}
    done, extra, declared = set(), [], []
    for text in [*texts, device]:
        for name, ret, args in undefined(text):
            if name not in done and (definition := ptx.define(name, ret, args, state)):
                done.add(name)
                extra.append(definition)
    for name, (source, ret, args) in asm.items():
        definition = ptx.define_asm(name, source, ret, args)
        if definition is None:
            declared.append(f"declare {ret} @{name}({', '.join(args)})")
        else:
            extra.append(definition)
    # A text that defines a function must not declare it.
    declaration = re.compile(r'^declare [^@\n]*@"?([^"(]+)"?\(.*$', flags=re.M)
    device = declaration.sub(lambda m: "" if m[1] in done else m[0], device)
    body = "\n".join([device, *declared, *extra])
    host_names = set(re.findall(r"call [^@\n]*@(llvm\.[\w.]+)\(", body)) - set(declaration.findall(body))
    declares = [_declare(name, body) for name in sorted(host_names)]
    return "\n".join([*declares, body, "declare void @emu.suspend(i32, i32) convergent nounwind"]), asm


def _declare(name, body):
    call = re.search(rf"call ([^@\n]*)@{re.escape(name)}\((.*?)\)\s*$", body, flags=re.M)
    return f"declare {call[1].split()[-1]} @{name}({', '.join(type_of(part) for part in split(call[2]))})"
