"""What a compiled function reads of the call that XLA makes, and how it answers.

XLA calls `XLA_FFI_Error *handler(XLA_FFI_CallFrame *)`: null is success.  Addresses are int64 here, and `AT`, a slot of
the templates that use these functions, is the `Offsets` of the header that jaxlib has.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...kernels.jit import inlined
from ...kernels.pointers import pointer_at, spill
from .header import Header, Unknown

_MESSAGE = 128  # bytes for each message, with the 0 behind it
_BLANK = (np.int64(0),) * (2 * _MESSAGE // 8)


class Offsets(NamedTuple):
    """Bytes from the start of a structure to its field, sizes of structures, and constants, by name."""

    frame_size: int
    extension: int
    api: int
    ctx: int
    stage: int
    args_size: int
    args: int
    rets_size: int
    rets: int
    attrs_size: int
    attrs: int
    extension_type: int
    metadata: int
    metadata_size: int
    version: int
    version_size: int
    traits: int
    major: int
    minor: int
    metadata_type: int
    execute: int
    api_size: int
    error_create: int
    error_create_size: int
    error_destroy: int
    error_destroy_size: int
    schedule: int
    schedule_size: int
    threads: int
    threads_size: int
    invalid_argument: int
    internal: int
    buffer_type: int
    data: int
    rank: int
    dims: int
    f32: int
    f64: int
    s32: int
    s64: int
    array_size: int
    array_data: int


@functools.cache
def offsets(header: Header) -> Offsets:
    """The `Offsets` of a header; raises `Unknown` where it lacks one, or orders arguments that are built otherwise."""
    at, size, value = header.offset, header.size, header.value
    frame, api, metadata = "XLA_FFI_CallFrame", "XLA_FFI_Api", "XLA_FFI_Metadata"
    for struct, fields in BUILT.items():
        there = [(x, where) for x, (where, _) in header.fields(struct).items()]
        if there != [(x, 8 * k) for k, x in enumerate(fields)]:
            raise Unknown(f"{struct} has the fields {', '.join(x for x, _ in there)}; {', '.join(fields)} are needed")
    return Offsets(
        frame_size=size(frame),
        extension=at(frame, "extension_start"),
        api=at(frame, "api"),
        ctx=at(frame, "ctx"),
        stage=at(frame, "stage"),
        args_size=at(frame, "args") + at("XLA_FFI_Args", "size"),
        args=at(frame, "args") + at("XLA_FFI_Args", "args"),
        rets_size=at(frame, "rets") + at("XLA_FFI_Rets", "size"),
        rets=at(frame, "rets") + at("XLA_FFI_Rets", "rets"),
        attrs_size=at(frame, "attrs") + at("XLA_FFI_Attrs", "size"),
        attrs=at(frame, "attrs") + at("XLA_FFI_Attrs", "attrs"),
        extension_type=at("XLA_FFI_Extension_Base", "type"),
        metadata=at("XLA_FFI_Metadata_Extension", "metadata"),
        metadata_size=size(metadata),
        version=at(metadata, "api_version"),
        version_size=size("XLA_FFI_Api_Version"),
        traits=at(metadata, "traits"),
        major=header.version[0],
        minor=header.version[1],
        metadata_type=value("XLA_FFI_Extension_Metadata"),
        execute=value("XLA_FFI_ExecutionStage_EXECUTE"),
        api_size=at(api, "XLA_FFI_ThreadPool_NumThreads") + 8,
        error_create=at(api, "XLA_FFI_Error_Create"),
        error_create_size=size("XLA_FFI_Error_Create_Args"),
        error_destroy=at(api, "XLA_FFI_Error_Destroy"),
        error_destroy_size=size("XLA_FFI_Error_Destroy_Args"),
        schedule=at(api, "XLA_FFI_ThreadPool_Schedule"),
        schedule_size=size("XLA_FFI_ThreadPool_Schedule_Args"),
        threads=at(api, "XLA_FFI_ThreadPool_NumThreads"),
        threads_size=size("XLA_FFI_ThreadPool_NumThreads_Args"),
        invalid_argument=value("XLA_FFI_Error_Code_INVALID_ARGUMENT"),
        internal=value("XLA_FFI_Error_Code_INTERNAL"),
        buffer_type=at("XLA_FFI_Buffer", "dtype"),
        data=at("XLA_FFI_Buffer", "data"),
        rank=at("XLA_FFI_Buffer", "rank"),
        dims=at("XLA_FFI_Buffer", "dims"),
        f32=value("XLA_FFI_DataType_F32"),
        f64=value("XLA_FFI_DataType_F64"),
        s32=value("XLA_FFI_DataType_S32"),
        s64=value("XLA_FFI_DataType_S64"),
        array_size=at("XLA_FFI_Array", "size"),
        array_data=at("XLA_FFI_Array", "data"),
    )


# The arguments of XLA's functions are made of words, in this order.
BUILT = {
    "XLA_FFI_Error_Create_Args": ("struct_size", "extension_start", "message", "errc"),
    "XLA_FFI_Error_Destroy_Args": ("struct_size", "extension_start", "error"),
    "XLA_FFI_ThreadPool_Schedule_Args": ("struct_size", "extension_start", "ctx", "task", "data"),
    "XLA_FFI_ThreadPool_NumThreads_Args": ("struct_size", "extension_start", "ctx", "num_threads"),
}


@intrinsic
def invoke(typingctx, function, argument):
    """`int64 function(int64)` of C, at an address.  (What returns nothing returns any number.)"""

    def build(context, builder, signature, operands):
        word = ir.IntType(64)
        return builder.call(builder.inttoptr(operands[0], ir.FunctionType(word, [word]).as_pointer()), [operands[1]])

    return types.int64(types.int64, types.int64), build


@inlined
def word(address):
    """The 8 bytes at an address."""
    return pointer_at(address, np.int64)[0]


@inlined
def half(address):
    """The 4 bytes at an address."""
    return pointer_at(address, np.int32)[0]


@inlined
def put_word(address, value):
    """Write 8 bytes."""
    pointer_at(address, np.int64)[0] = np.int64(value)


@inlined
def put_half(address, value):
    """Write 4 bytes."""
    pointer_at(address, np.int32)[0] = np.int32(value)


@inlined
def element(array, k):
    """Element `k` of an array of addresses."""
    return pointer_at(array, np.int64)[k]


@inlined
def length(buffer, AT):
    """The number of elements of a buffer."""
    made, dims = np.int64(1), word(buffer + AT.dims)
    for k in range(word(buffer + AT.rank)):
        made *= element(dims, k)
    return made


@inlined
def answer_metadata(frame, AT):
    """Was only the version of the interface asked for, as registration does?  Then it is told."""
    extension = word(frame + AT.extension)
    if extension == 0 or half(extension + AT.extension_type) != AT.metadata_type:
        return False
    metadata = word(extension + AT.metadata)
    if word(metadata) >= AT.metadata_size:
        version = metadata + AT.version
        put_word(version, AT.version_size)
        put_word(version + 8, 0)
        put_half(version + 16, AT.major)
        put_half(version + 20, AT.minor)
        put_half(metadata + AT.traits, 0)
    return True


@inlined
def failure(frame, code, message, AT):
    """An error of XLA; `message` is the address of its text."""
    arguments = spill((np.int64(AT.error_create_size), np.int64(0), np.int64(message), np.int64(code)))
    return invoke(word(word(frame + AT.api) + AT.error_create), arguments)


@inlined
def dropped(api, error, AT):
    """Free an error that is dealt with; was there one?"""
    if error == 0:
        return False
    invoke(word(api + AT.error_destroy), spill((np.int64(AT.error_destroy_size), np.int64(0), np.int64(error))))
    return True


def data_of_each(count: int, dtype: Any, at: Offsets) -> Any:
    """`data(args, k, stride)`: pointers to the elements of `count` operands, from number `k` on, `stride` apart."""
    made = types.UniTuple(types.CPointer(dtype), count)

    def data(typingctx, args, k, stride):
        def build(context, builder, signature, operands):
            size = ir.IntType(64)
            start, first, step = operands
            parts = []
            for row in range(count):
                place = builder.add(first, builder.mul(step, ir.Constant(size, row)))
                place = builder.add(start, builder.mul(place, ir.Constant(size, 8)))
                buffer = builder.load(builder.inttoptr(place, size.as_pointer()))
                field = builder.inttoptr(builder.add(buffer, ir.Constant(size, at.data)), size.as_pointer())
                parts.append(builder.inttoptr(builder.load(field), context.get_value_type(made.dtype)))
            return context.make_tuple(builder, made, parts)

        return made(types.int64, types.int64, types.int64), build

    return intrinsic(data)


@intrinsic
def print_number(typingctx, text, size, form, value):
    """`snprintf` of the C library for one double; texts are addresses."""

    def build(context, builder, signature, operands):
        char, size = ir.IntType(8).as_pointer(), ir.IntType(64)
        kind = ir.FunctionType(ir.IntType(32), [char, size, char], var_arg=True)
        function = cgutils.get_or_insert_function(builder.module, kind, "snprintf")
        text, length, form, value = operands
        return builder.call(function, [builder.inttoptr(text, char), length, builder.inttoptr(form, char), value])

    return types.intc(types.int64, types.int64, types.int64, types.float64), build


@inlined
def shown(form, value):
    """The text of a message with a number in it, which lives as long as the caller runs."""
    text = spill(_BLANK)
    print_number(text, 2 * _MESSAGE, form, value)
    return text


def texts(messages: Sequence[str]) -> Any:
    """`text(k)`: the address of message `k` as a string of C, a part of the compiled code."""
    parts = []
    for message in messages:
        made = message.encode()
        if len(made) >= _MESSAGE:
            made = made[: _MESSAGE - 4] + b"..."
        parts.append(made.ljust(_MESSAGE, b"\0"))
    table = b"".join(parts)

    def text(typingctx, k):
        def build(context, builder, signature, operands):
            kind = ir.ArrayType(ir.IntType(8), len(table))
            constant = cgutils.global_constant(builder, "messages", ir.Constant(kind, bytearray(table)))
            start = builder.ptrtoint(constant, ir.IntType(64))
            return builder.add(start, builder.mul(operands[0], ir.Constant(ir.IntType(64), _MESSAGE)))

        return types.int64(types.int64), build

    return intrinsic(text)
