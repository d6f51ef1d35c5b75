"""Graphs that were captured."""

import ctypes

from ..calls import call, put_handle
from ..capture import Executable, Graph
from ..errors import CudaError


@call("cuGraphCreate", "qu", context=False)
def create(machine, out, flags):
    put_handle(out, machine.new(Graph).handle)


@call("cuGraphDestroy", "q", context=False)
def destroy(machine, handle):
    machine.forget(machine.get(Graph, handle))


@call("cuGraphGetNodes", "qqq", context=False)
def nodes(machine, handle, out, count):
    found = machine.get(Graph, handle).nodes
    if out:
        raise CudaError("NOT_SUPPORTED", "only the number of nodes is known")
    put_handle(count, len(found))


def _instantiate(machine, out, handle):
    put_handle(out, machine.new(Executable, machine.get(Graph, handle)).handle)


@call("cuGraphInstantiateWithFlags", "qqq", context=False)
def instantiate(machine, out, handle, flags):
    _instantiate(machine, out, handle)


@call("cuGraphInstantiateWithParams", "qqq", context=False)
def instantiate_with_parameters(machine, out, handle, parameters):
    _instantiate(machine, out, handle)
    ctypes.c_uint32.from_address(parameters + 24).value = 0  # CUDA_GRAPH_INSTANTIATE_SUCCESS


@call("cuGraphUpload", "qq")
def upload(machine, handle, stream):
    machine.get(Executable, handle), machine.stream(stream)


@call("cuGraphLaunch", "qq")
def launch(machine, handle, stream):
    machine.get(Executable, handle).launch(machine.streams, machine.stream(stream))


@call("cuGraphExecDestroy", "q", context=False)
def destroy_executable(machine, handle):
    machine.forget(machine.get(Executable, handle))
