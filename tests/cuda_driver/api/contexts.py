"""Contexts: one stack for each thread, a primary context for each device."""

import ctypes

from ..calls import call, put, put_handle, put_int
from ..errors import CudaError
from ..machine import VERSION
from ..streams import Context


def _primary(machine, ordinal):
    if not 0 <= ordinal < len(machine.primary):
        raise CudaError("INVALID_DEVICE", str(ordinal))
    return machine.primary[ordinal]


@call("cuDevicePrimaryCtxRetain", "qi", context=False)
def retain(machine, out, ordinal):
    context = _primary(machine, ordinal)
    context.uses += 1
    put_handle(out, context.handle)


@call("cuDevicePrimaryCtxRelease_v2", "i", context=False)
def release(machine, ordinal):
    context = _primary(machine, ordinal)
    if not context.uses:
        raise CudaError("INVALID_CONTEXT")
    context.uses -= 1


@call("cuDevicePrimaryCtxReset_v2", "i", context=False)
def reset(machine, ordinal):
    context = _primary(machine, ordinal)
    machine.engine.drop(context)
    context.error = None


@call("cuDevicePrimaryCtxGetState", "iqq", context=False)
def primary_state(machine, ordinal, flags, active):
    put_int(flags, 0)
    put_int(active, int(_primary(machine, ordinal).uses > 0))


@call("cuDevicePrimaryCtxSetFlags_v2", "iu", context=False)
def primary_flags(machine, ordinal, flags):
    _primary(machine, ordinal)


def _create(machine, out, ordinal):
    made = machine.new(Context, _primary(machine, ordinal).device)
    machine.stack.append(made)
    put_handle(out, made.handle)


@call("cuCtxCreate_v2", "qui", context=False)
def create(machine, out, flags, ordinal):
    _create(machine, out, ordinal)


@call("cuCtxCreate_v4", "qqui", since=12050, context=False)
def create_with_parameters(machine, out, parameters, flags, ordinal):
    _create(machine, out, ordinal)


@call("cuCtxDestroy_v2", "q", context=False)
def destroy(machine, handle):
    context = machine.get(Context, handle)
    if context.primary:
        raise CudaError("INVALID_CONTEXT", "a primary context is released, not destroyed")
    machine.engine.wait(context.queued())
    context.destroyed = True
    machine.forget(context)
    if machine.stack and machine.stack[-1] is context:
        machine.stack.pop()


@call("cuCtxGetCurrent", "q", context=False)
def get_current(machine, out):
    put_handle(out, machine.stack[-1].handle if machine.stack else 0)


@call("cuCtxSetCurrent", "q", context=False)
def set_current(machine, handle):
    if machine.stack:
        machine.stack.pop()
    if handle:
        machine.stack.append(machine.get(Context, handle))


@call("cuCtxPushCurrent_v2", "q", context=False)
def push(machine, handle):
    machine.stack.append(machine.get(Context, handle))


@call("cuCtxPopCurrent_v2", "q", context=False)
def pop(machine, out):
    if not machine.stack:
        raise CudaError("INVALID_CONTEXT", "the stack of contexts is empty")
    context = machine.stack.pop()
    if out:
        put_handle(out, context.handle)


@call("cuCtxGetDevice", "q", context=False)
def get_device(machine, out):
    if not machine.stack:
        raise CudaError("INVALID_CONTEXT", "this thread has no current context")
    put_int(out, machine.stack[-1].device)


@call("cuCtxGetDevice_v2", "qq", since=13000, context=False)
def get_device_of(machine, out, handle):
    if handle:
        put_int(out, machine.get(Context, handle).device)
    else:
        get_device(machine, out)


@call("cuCtxGetFlags", "q")
def get_flags(machine, out):
    put_int(out, 0)


@call("cuCtxGetId", "qq", context=False)
def get_id(machine, handle, out):
    context = machine.get(Context, handle) if handle else machine.current()
    put(out, ctypes.c_uint64, context.handle >> 4)


@call("cuCtxGetApiVersion", "qq", context=False)
def api_version(machine, handle, out):
    put_int(out, VERSION)


def _synchronize(machine, context):
    if machine.captures.within(context):
        for capture in machine.captures.within(context):
            capture.invalidate("a synchronisation of its context")
        raise CudaError("STREAM_CAPTURE_UNSUPPORTED", "a stream of the context is being captured")
    machine.wait(context.queued(), context)


@call("cuCtxSynchronize")
def synchronize(machine):
    _synchronize(machine, machine.current())


@call("cuCtxSynchronize_v2", "q", since=13000, context=False)
def synchronize_other(machine, handle):
    _synchronize(machine, machine.get(Context, handle) if handle else machine.current())


@call("cuCtxGetStreamPriorityRange", "qq")
def priorities(machine, least, greatest):
    if least:
        put_int(least, 0)
    if greatest:
        put_int(greatest, -5)


@call("cuCtxGetLimit", "qi")
def get_limit(machine, out, limit):
    put(out, ctypes.c_size_t, 8 << 20)


@call("cuCtxSetLimit", "iq")
def set_limit(machine, limit, value):
    """Nothing here is limited."""


@call("cuCtxEnablePeerAccess", "qu")
def enable_peer(machine, handle, flags):
    raise CudaError("NOT_SUPPORTED", "these devices do not see each other's memory")
