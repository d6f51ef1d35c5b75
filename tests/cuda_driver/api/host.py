"""What needs no context: the API's own functions, errors, devices."""

import ctypes

from ..calls import call, exported, put, put_handle, put_int
from ..errors import NAMES, CudaError
from ..machine import VERSION

SYMBOL_FOUND, VERSION_TOO_OLD = 0, 2
_texts = {}


@call("cuInit", "u", context=False)
def init(machine, flags):
    machine.initialized = True


@call("cuDriverGetVersion", "q", context=False, always=True)
def version(machine, out):
    put_int(out, VERSION)


def _find(machine, symbol, out, version):
    name = exported(ctypes.string_at(symbol).decode(), version)
    if name is None:
        put_handle(out, 0)
        raise CudaError("NOT_FOUND", ctypes.string_at(symbol).decode())
    put_handle(out, ctypes.cast(getattr(machine.library, name), ctypes.c_void_p).value)


@call("cuGetProcAddress", "qqiq", context=False, always=True)
def get_address(machine, symbol, out, version, flags):
    _find(machine, symbol, out, version)


@call("cuGetProcAddress_v2", "qqiqq", since=12000, context=False, always=True)
def get_address_and_status(machine, symbol, out, version, flags, status):
    if status:
        put_int(status, VERSION_TOO_OLD)
    _find(machine, symbol, out, version)
    if status:
        put_int(status, SYMBOL_FOUND)


def _text(machine, code, out, text):
    if code not in NAMES:
        put_handle(out, 0)
        raise CudaError("INVALID_VALUE")
    kept = _texts.setdefault(text, ctypes.create_string_buffer(text.encode()))
    put_handle(out, ctypes.addressof(kept))


@call("cuGetErrorName", "iq", context=False, always=True)
def error_name(machine, code, out):
    _text(machine, code, out, f"CUDA_{'ERROR_' if code else ''}{NAMES.get(code)}")


@call("cuGetErrorString", "iq", context=False, always=True)
def error_string(machine, code, out):
    _text(machine, code, out, f"{NAMES.get(code, '').lower().replace('_', ' ')} (CUDA driver for tests)")


def _device(machine, ordinal):
    if not 0 <= ordinal < len(machine.devices):
        raise CudaError("INVALID_DEVICE", str(ordinal))
    return machine.devices[ordinal]


@call("cuDeviceGetCount", "q", context=False)
def device_count(machine, out):
    put_int(out, len(machine.devices))


@call("cuDeviceGet", "qi", context=False)
def device_get(machine, out, ordinal):
    put_int(out, _device(machine, ordinal).ordinal)


@call("cuDeviceGetName", "qii", context=False)
def device_name(machine, out, length, ordinal):
    name = _device(machine, ordinal).name.encode()[: length - 1]
    ctypes.memmove(out, name + b"\0", len(name) + 1)


def _uuid(machine, out, ordinal):
    _device(machine, ordinal)
    ctypes.memmove(out, bytes([ordinal + 1] * 16), 16)


@call("cuDeviceGetUuid", "qi", context=False)
def device_uuid(machine, out, ordinal):
    _uuid(machine, out, ordinal)


@call("cuDeviceGetUuid_v2", "qi", since=11040, context=False)
def device_uuid_v2(machine, out, ordinal):
    _uuid(machine, out, ordinal)


@call("cuDeviceGetPCIBusId", "qii", context=False)
def device_bus(machine, out, length, ordinal):
    name = f"0000:{_device(machine, ordinal).ordinal + 1:02x}:00.0".encode()[: length - 1]
    ctypes.memmove(out, name + b"\0", len(name) + 1)


@call("cuDeviceTotalMem_v2", "qi", context=False)
def device_memory(machine, out, ordinal):
    put(out, ctypes.c_size_t, _device(machine, ordinal).memory)


@call("cuDeviceGetAttribute", "qii", context=False)
def device_attribute(machine, out, attribute, ordinal):
    put_int(out, _device(machine, ordinal).attribute(attribute))


@call("cuDeviceCanAccessPeer", "qii", context=False)
def can_access_peer(machine, out, device, peer):
    _device(machine, device), _device(machine, peer)
    put_int(out, 0)


@call("cuProfilerStart")
def profiler_start(machine):
    """Nothing is profiled."""


@call("cuProfilerStop")
def profiler_stop(machine):
    """Nothing is profiled."""
