"""The C header of XLA's interface: offsets as a C compiler has them, and refusals of what is not understood."""

import shutil
import subprocess
from pathlib import Path

import pytest

jax = pytest.importorskip("jax", reason="the header is that of jaxlib")

from nagd_numba.adapters.xla import calls, frame
from nagd_numba.adapters.xla.header import Header, Unknown, header

INCLUDE = jax.ffi.include_dir()
TEXT = (Path(INCLUDE) / "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
STRUCTS = (
    "XLA_FFI_CallFrame",
    "XLA_FFI_Args",
    "XLA_FFI_Rets",
    "XLA_FFI_Attrs",
    "XLA_FFI_Buffer",
    "XLA_FFI_Array",
    "XLA_FFI_Extension_Base",
    "XLA_FFI_Metadata_Extension",
    "XLA_FFI_Metadata",
    "XLA_FFI_Api",
    "XLA_FFI_Api_Version",
    *frame.BUILT,
)


def test_offsets_and_sizes_are_those_of_a_c_compiler(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    ours = header(INCLUDE)
    expected = {f"{x}.{field}": at for x in STRUCTS for field, (at, _) in ours.fields(x).items()}
    expected |= {name: ours.value(name) for name in ours.values}
    lines = [f'printf("{x}.{field} %zu\\n", offsetof(struct {x}, {field}));' for x in STRUCTS for field in ours.fields(x)]
    lines += [f'printf("{name} %d\\n", (int){name});' for name in ours.values]
    for struct in STRUCTS:
        if struct != "XLA_FFI_Array":  # which has no field for its size
            expected[struct] = ours.size(struct)
            lines.append(f'printf("{struct} %d\\n", (int){struct}_STRUCT_SIZE);')
    source, program = tmp_path / "offsets.c", tmp_path / "offsets"
    body = "\n".join(lines)
    source.write_text(f'#include <stdio.h>\n#include "xla/ffi/api/c_api.h"\nint main(void) {{\n{body}\nreturn 0; }}\n')
    subprocess.run([compiler, "-I", INCLUDE, str(source), "-o", str(program)], check=True)
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    assert {name: int(x) for name, x in map(str.split, said.splitlines())} == expected


def test_a_field_that_moved_is_found_where_it_is():
    moved = TEXT.replace("  XLA_FFI_DataType dtype;\n  void* data;\n", "  int64_t more;\n  XLA_FFI_DataType dtype;\n  void* data;\n")
    assert moved != TEXT
    assert frame.offsets(Header(moved)).data == frame.offsets(Header(TEXT)).data + 8


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("#define XLA_FFI_API_MAJOR 0", "#define XLA_FFI_API_MAJOR 1", r"its version is 1\.\d+, and 0\.x is needed"),
        ("#define XLA_FFI_API_MINOR", "#define XLA_FFI_API_LEAST", "does not define XLA_FFI_API_MINOR"),
        ("int64_t rank;", "int64_t order;", "XLA_FFI_Buffer has no field rank"),
        ("XLA_FFI_ExecutionStage_EXECUTE = 3", "XLA_FFI_ExecutionStage_RUN = 3", "no constant XLA_FFI_ExecutionStage_EXE"),
        ("struct XLA_FFI_Buffer {", "struct XLA_FFI_Storage {", "no structure XLA_FFI_Buffer"),
        ("int64_t rank;", "long double rank;", "'long double rank' is not understood"),
        ("XLA_FFI_Task* task;\n  void* data;", "void* data;\n  XLA_FFI_Task* task;", "ThreadPool_Schedule_Args has the fields"),
    ],
)
def test_what_is_not_understood_is_refused(old, new, said):
    changed = TEXT.replace(old, new)
    assert changed != TEXT
    with pytest.raises(Unknown, match=said):
        frame.offsets(Header(changed))


def test_another_jaxlib_is_refused_before_anything_runs(tmp_path, monkeypatch):
    folder = tmp_path / "xla/ffi/api"
    folder.mkdir(parents=True)
    (folder / "c_api.h").write_text(TEXT.replace("#define XLA_FFI_API_MAJOR 0", "#define XLA_FFI_API_MAJOR 2"))
    for include, said in ((tmp_path, r"its version is 2\.\d+"), (tmp_path / "nowhere", "there is no .*c_api.h")):
        monkeypatch.setattr(jax.ffi, "include_dir", lambda include=include: str(include))
        with pytest.raises(ImportError, match=rf"cannot use XLA as jaxlib .* has it: .*{said}"):
            calls.interface.__wrapped__()
