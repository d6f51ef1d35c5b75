"""The handler by itself, called with a frame made by hand: what XLA does only when something is wrong."""

import ctypes

import numpy as np
import pytest
from numba import config

jax = pytest.importorskip("jax", reason="the frame is that of jaxlib's header")
if config.DISABLE_JIT:
    pytest.skip("a handler is compiled code", allow_module_level=True)

import nagd_numba
from nagd_numba.adapters.xla.calls import interface
from nagd_numba.adapters.xla.handler import PARALLEL_FROM, Kind, compiled
from nagd_numba.adapters.xla.header import header
from nagd_numba.optimizers.registry import RULES
from tests.helpers.bits import assert_same_bits

RULE = RULES["nesterov"]
HEADER = header(jax.ffi.include_dir())
HANDLER = compiled(Kind(RULE, RULE.defaults(), np.dtype(np.float32)), interface())
WORD = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class Frame:
    """A call frame in memory of NumPy, with functions of XLA that note what they are asked.

    `schedule` keeps the tasks, runs them "at once", or keeps the first and does "refuse the second".
    """

    def __init__(self, operands, results, hyper, traced, threads=1, schedule="keep"):
        self.kept, self.errors, self.tasks, self.freed = [], [], [], 0
        self.threads, self.how = threads, schedule
        functions = {
            "XLA_FFI_Error_Create": self.error_create,
            "XLA_FFI_Error_Destroy": self.error_destroy,
            "XLA_FFI_ThreadPool_NumThreads": self.count,
            "XLA_FFI_ThreadPool_Schedule": self.schedule,
        }
        pointers = {name: WORD(function) for name, function in functions.items()}
        self.kept.append(pointers)
        addresses = {name: ctypes.cast(x, ctypes.c_void_p).value for name, x in pointers.items()}
        self.api = self.struct("XLA_FFI_Api", **addresses)
        attributes = [self.struct("XLA_FFI_Array", sized=False, size=len(x), data=self.place(x)) for x in (hyper, traced)]
        self.frame = self.struct("XLA_FFI_CallFrame", api=self.api, stage=HEADER.value("XLA_FFI_ExecutionStage_EXECUTE"))
        lists = {"args": (operands, "args"), "rets": (results, "rets"), "attrs": (attributes, "attrs")}
        for field, (items, inner) in lists.items():
            at = self.frame + HEADER.offset("XLA_FFI_CallFrame", field)
            struct = f"XLA_FFI_{field.capitalize()}"
            places = items if field == "attrs" else [self.buffer(x) for x in items]
            self.put(at + HEADER.offset(struct, "size"), len(items))
            self.put(at + HEADER.offset(struct, inner), self.place(np.array(places, np.int64)))

    def place(self, array):
        self.kept.append(array)
        return array.ctypes.data

    def put(self, address, value):
        ctypes.c_int64.from_address(address).value = value

    def struct(self, name, sized=True, **fields):
        memory = np.zeros(64, np.int64)
        address = self.place(memory)
        if sized:
            self.put(address, HEADER.size(name))
        for field, value in fields.items():
            self.put(address + HEADER.offset(name, field), value)
        return address

    def buffer(self, x):
        kind = HEADER.value({"float32": "XLA_FFI_DataType_F32", "float64": "XLA_FFI_DataType_F64"}[x.dtype.name])
        dims = self.place(np.array(x.shape, np.int64))
        return self.struct("XLA_FFI_Buffer", dtype=kind, data=self.place(x), rank=x.ndim, dims=dims)

    def word(self, address, struct, field):
        return ctypes.c_int64.from_address(address + HEADER.offset(struct, field)).value

    def error_create(self, arguments):
        self.errors.append(ctypes.string_at(self.word(arguments, "XLA_FFI_Error_Create_Args", "message")).decode())
        return 1

    def error_destroy(self, arguments):
        self.freed += 1
        return 0

    def count(self, arguments):
        self.put(self.word(arguments, "XLA_FFI_ThreadPool_NumThreads_Args", "num_threads"), self.threads)
        return 0

    def schedule(self, arguments):
        if self.how == "refuse the second" and self.tasks:
            return 1
        struct = "XLA_FFI_ThreadPool_Schedule_Args"
        task = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.word(arguments, struct, "task"))
        data = self.word(arguments, struct, "data")
        self.tasks.append(lambda: task(data))
        if self.how == "at once":
            self.tasks[-1]()
        return 0

    def run(self):
        return WORD(HANDLER.address)(self.frame)


def call(n=5, rows=None, rates=(), **options):
    rng = np.random.default_rng(0)
    shape = (n,) if rows is None else (rows, n)
    p, g, v = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    numbers = [] if rows is None else [np.array(rates, np.float64)]
    traced = np.array([0 if rows is not None else -1, -1, -1, -1])
    frame = Frame([*numbers, p, g, v], [p, v], np.array([0.1, 0.9, 0.9, 0.0]), traced, **options)
    return frame, p, g, v


def test_it_steps_in_place():
    frame, p, g, v = call()
    ours = p.copy(), v.copy()
    nagd_numba.step(ours[0], g, ours[1], lr=0.1)
    assert frame.run() == 0
    assert_same_bits((p, v), ours)


def test_the_version_is_told_when_it_is_asked_for():
    frame, p, _, _ = call()
    before = p.copy()
    metadata = frame.struct("XLA_FFI_Metadata")
    extension = frame.struct("XLA_FFI_Metadata_Extension", metadata=metadata)
    ctypes.c_int32.from_address(extension + HEADER.offset("XLA_FFI_Extension_Base", "type")).value = HEADER.value(
        "XLA_FFI_Extension_Metadata"
    )
    frame.put(frame.frame + HEADER.offset("XLA_FFI_CallFrame", "extension_start"), extension)
    assert frame.run() == 0
    version = metadata + HEADER.offset("XLA_FFI_Metadata", "api_version")
    told = [
        ctypes.c_int32.from_address(version + HEADER.offset("XLA_FFI_Api_Version", x)).value
        for x in ("major_version", "minor_version")
    ]
    assert tuple(told) == HEADER.version
    assert_same_bits([p], [before])


@pytest.mark.parametrize("what", ["frame", "api", "stage"])
def test_another_version_or_stage_is_refused(what):
    frame, p, _, _ = call()
    before = p.copy()
    if what == "stage":
        at = frame.frame + HEADER.offset("XLA_FFI_CallFrame", "stage")
        ctypes.c_int32.from_address(at).value = HEADER.value("XLA_FFI_ExecutionStage_PREPARE")
    else:
        frame.put(getattr(frame, what), 8 * 10)
    assert frame.run() == 1
    assert ("another stage" if what == "stage" else "not of its version") in frame.errors[0]
    assert_same_bits([p], [before])


def test_a_bad_number_in_any_row_is_found_before_the_first_is_written():
    for rates in ([-0.1, 0.1, 0.2], [0.1, 0.2, -0.1], [0.1, np.nan, 0.1]):
        frame, p, _, v = call(rows=3, rates=rates)
        before = p.copy(), v.copy()
        assert frame.run() == 1
        assert frame.errors[0].startswith("nagd_numba, nesterov: lr is ")
        assert_same_bits((p, v), before)


def test_each_row_has_its_numbers():
    frame, p, g, v = call(rows=3, rates=[0.1, 0.2, 0.3])
    ours = p.copy(), v.copy()
    for k, lr in enumerate([0.1, 0.2, 0.3]):
        nagd_numba.step(ours[0][k], g[k], ours[1][k], lr=lr)
    assert frame.run() == 0
    assert_same_bits((p, v), ours)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("schedule", ["at once", "keep", "refuse the second"])
def test_tasks_that_run_at_once_too_late_or_never(schedule, threads):
    frame, p, g, v = call(PARALLEL_FROM, threads=threads, schedule=schedule)
    ours = p.copy(), v.copy()
    nagd_numba.step(ours[0], g, ours[1], lr=0.1)
    assert frame.run() == 0
    assert_same_bits((p, v), ours)
    if schedule != "at once":
        for task in frame.tasks:  # the call is over: they find nothing to do, and the last frees what they share
            task()
        assert_same_bits((p, v), ours)
    helpers = min(threads, PARALLEL_FROM // 8_192) - 1
    refused = schedule == "refuse the second" and helpers > 1
    assert len(frame.tasks) == (1 if refused else helpers)
    assert frame.freed == refused
