"""Machine code, its kernels, and launches."""

import ctypes
import struct

from .. import kernels
from ..calls import call, put, put_handle, put_int
from ..errors import CudaError
from ..kernels import Function, Module, read_host, read_image

ATTRIBUTE_IGNORE = 0


def _load(machine, out, image, context):
    """Load machine code, of a module for a context, of a library (None) for all."""
    cubin = read_image(machine.library, image)
    where = context or (machine.current() if machine.stack else None)
    if where is not None:
        _check_architecture(machine, cubin, where)
    put_handle(out, machine.new(Module, cubin, context).handle)


def _check_architecture(machine, cubin, context):
    device = machine.devices[context.device]
    if not device.runs(cubin.capability):
        major, minor = cubin.capability
        raise CudaError("NO_BINARY_FOR_GPU", f"machine code for sm_{major}{minor} on {device.name}")


def _function(machine, out, module, name):
    name = ctypes.string_at(name).decode()
    if name not in module.cubin.entries:
        raise CudaError("NOT_FOUND", f"no kernel {name}; there are {sorted(module.cubin.entries)}")
    if name not in module.functions:
        module.functions[name] = machine.new(Function, module, module.cubin.entries[name])
    put_handle(out, module.functions[name].handle)


def _unload(machine, handle):
    module = machine.get(Module, handle)
    for function in module.functions.values():
        machine.forget(function)
    machine.forget(module)
    module.unloaded = True


@call("cuModuleLoadData", "qq", unsafe=True)
def load_module(machine, out, image):
    _load(machine, out, image, machine.current())


@call("cuModuleLoadDataEx", "qquqq", unsafe=True)
def load_module_with_options(machine, out, image, count, options, option_values):
    _load(machine, out, image, machine.current())


@call("cuModuleUnload", "q", unsafe=True)
def unload_module(machine, handle):
    _unload(machine, handle)


@call("cuModuleGetFunction", "qqq")
def module_function(machine, out, module, name):
    _function(machine, out, machine.get(Module, module), name)


@call("cuLibraryLoadData", "qqqquqqu", context=False, unsafe=True)
def load_library(machine, out, image, jit, jit_values, jit_count, options, option_values, count):
    _load(machine, out, image, None)


@call("cuLibraryUnload", "q", context=False, unsafe=True)
def unload_library(machine, handle):
    _unload(machine, handle)


@call("cuLibraryGetKernel", "qqq", context=False)
def library_kernel(machine, out, library, name):
    _function(machine, out, machine.get(Module, library), name)


@call("cuLibraryGetKernelCount", "qq", context=False)
def kernel_count(machine, out, library):
    put_int(out, len(machine.get(Module, library).cubin.entries))


@call("cuLibraryEnumerateKernels", "quq", context=False)
def enumerate_kernels(machine, out, count, library):
    module = machine.get(Module, library)
    for k, name in zip(range(count), module.cubin.entries, strict=False):
        _function(machine, out + 8 * k, module, ctypes.create_string_buffer(name.encode()))


@call("cuLibraryGetModule", "qq")
def library_module(machine, out, library):
    module = machine.get(Module, library)
    _check_architecture(machine, module.cubin, machine.current())
    put_handle(out, module.handle)


@call("cuKernelGetLibrary", "qq", context=False)
def kernel_library(machine, out, kernel):
    put_handle(out, machine.get(Function, kernel).module.handle)


@call("cuKernelGetFunction", "qq")
def kernel_function(machine, out, kernel):
    function = machine.get(Function, kernel)
    _check_architecture(machine, function.module.cubin, machine.current())
    put_handle(out, function.handle)


def _parameter(machine, kernel, index, offset, size):
    table = machine.get(Function, kernel).entry.parameters
    if index >= len(table):
        raise CudaError("INVALID_VALUE", f"{len(table)} parameters")
    put(offset, ctypes.c_size_t, table[index].offset)
    if size:
        put(size, ctypes.c_size_t, table[index].size)


@call("cuKernelGetParamInfo", "qqqq", context=False)
def kernel_parameter(machine, kernel, index, offset, size):
    _parameter(machine, kernel, index, offset, size)


@call("cuFuncGetParamInfo", "qqqq", context=False)
def function_parameter(machine, function, index, offset, size):
    _parameter(machine, function, index, offset, size)


@call("cuKernelSetAttribute", "iiqi", context=False)
def set_kernel_attribute(machine, attribute, value, kernel, device):
    _set_attribute(machine.get(Function, kernel), attribute, value, device)


@call("cuFuncSetAttribute", "qii")
def set_function_attribute(machine, function, attribute, value):
    _set_attribute(machine.get(Function, function), attribute, value, machine.current().device)


def _set_attribute(function, attribute, value, device):
    if attribute == kernels.MAX_DYNAMIC:
        function.allow(device, value)


@call("cuKernelGetAttribute", "qiqi", context=False)
def kernel_attribute(machine, out, attribute, kernel, device):
    put_int(out, machine.get(Function, kernel).attribute(attribute, device))


@call("cuFuncGetAttribute", "qiq")
def function_attribute(machine, out, attribute, function):
    put_int(out, machine.get(Function, function).attribute(attribute, machine.current().device))


@call("cuKernelSetCacheConfig", "qii", context=False)
def kernel_cache(machine, kernel, config, device):
    machine.get(Function, kernel)


@call("cuFuncSetCacheConfig", "qi")
def function_cache(machine, function, config):
    machine.get(Function, function)


def _blocks(machine, out, function, threads, shared):
    entry = machine.get(Function, function).entry
    fits = [2048 // max(1, threads), 65536 // max(1, entry.registers * threads)]
    if shared + entry.static_shared:
        fits.append((228 << 10) // (shared + entry.static_shared + 1024))
    put_int(out, min(fits))


@call("cuOccupancyMaxActiveBlocksPerMultiprocessor", "qqiq")
def occupancy(machine, out, function, threads, shared):
    _blocks(machine, out, function, threads, shared)


@call("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", "qqiqu")
def occupancy_with_flags(machine, out, function, threads, shared, flags):
    _blocks(machine, out, function, threads, shared)


# ------------------------------------------------------------------ launches


def launch(machine, *arguments):
    """However it was called."""
    machine.run_call("launch", _launch, arguments)


def _launch(machine, function, grid, block, shared, stream, params, extra):
    context = machine.current()
    stream, function = machine.stream(stream), machine.get(Function, function)
    device = machine.devices[context.device]
    entry = function.entry
    if stream.context is not context:
        raise CudaError("INVALID_HANDLE", f"{stream} is of {stream.context}, and {context} is current")
    if function.module.context not in (None, context):
        raise CudaError("INVALID_HANDLE", f"{entry.title} was loaded in another context")
    kernels.check_shape(function, device, grid, block, shared)
    raw = kernels.read_arguments(machine.library, entry, params, extra)
    kernel = machine.programs.find(function.module.cubin, entry.name)
    given = kernels.values(kernel, raw, machine.space, device)
    machine.launches += 1

    def run():
        if function.module.unloaded:
            raise kernels.Failure("LAUNCH_FAILED", f"{entry.title} was unloaded before it ran")
        return kernels.emulate(kernel, grid, block, given, shared, machine.engine.random, machine.space)

    machine.streams.queue(stream, f"kernel {entry.title}", machine.guarded(context, run))


@call("cuLaunchKernel", "quuuuuuuqqq")
def launch_kernel(machine, function, gx, gy, gz, bx, by, bz, shared, stream, params, extra):
    launch(machine, function, (gx, gy, gz), (bx, by, bz), shared, stream, params, extra)


@call("cuLaunchCooperativeKernel", "quuuuuuuqq")
def launch_cooperative(machine, function, gx, gy, gz, bx, by, bz, shared, stream, params):
    raise CudaError("NOT_SUPPORTED", "blocks run one after another: they cannot wait for each other")


@call("cuLaunchKernelEx", "qqqq")
def launch_kernel_ex(machine, config, function, params, extra):
    gx, gy, gz, bx, by, bz, shared, stream, attributes, count = struct.unpack(
        "<7I4xQQI", read_host(machine.library, config, 52)
    )
    for k in range(count):
        (kind,) = struct.unpack("<I", read_host(machine.library, attributes + 72 * k, 4))
        if kind != ATTRIBUTE_IGNORE:
            raise CudaError("NOT_SUPPORTED", f"the launch attribute {kind}")
    launch(machine, function, (gx, gy, gz), (bx, by, bz), shared, stream, params, extra)
