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
    graph = machine.get(Graph, handle)
    machine.forget(graph)
    for made in graph.objects:
        _drop(machine, made, 1)


@call("cuGraphGetNodes", "qqq", context=False)
def nodes(machine, handle, out, count):
    found = machine.get(Graph, handle).nodes
    if out:
        raise CudaError("NOT_SUPPORTED", "only the number of nodes is known")
    put_handle(count, len(found))


def _instantiate(machine, out, handle):
    made = machine.new(Executable, machine.get(Graph, handle))
    for kept in made.objects:
        kept.references += 1
    put_handle(out, made.handle)


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
    """What it still has queued runs; then what it kept may go."""
    made = machine.get(Executable, handle)
    machine.engine.require(made.last)
    machine.forget(made)
    for kept in made.objects:
        _drop(machine, kept, 1)


@call("cuGraphExecUpdate_v2", "qqq", since=12000, context=False)
def update(machine, handle, graph, result):
    """The nodes of another graph, which are launched from then on."""
    machine.get(Executable, handle).nodes = list(machine.get(Graph, graph).nodes)
    ctypes.c_uint32.from_address(result).value = 0  # CU_GRAPH_EXEC_UPDATE_SUCCESS


# ------------------------------------------------------------------ objects that live as long as a graph


class UserObject:
    """Something of the program's that is destroyed when nobody refers to it any more."""

    def __init__(self, handle, address, destroy, references):
        self.handle, self.address, self.destroy, self.references = handle, address, destroy, references


def _drop(machine, made, count):
    made.references -= count
    if made.references <= 0:
        machine.forget(made)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(made.destroy)(made.address)


@call("cuUserObjectCreate", "qqquu", context=False)
def create_object(machine, out, address, destroy, references, flags):
    put_handle(out, machine.new(UserObject, address, destroy, references).handle)


@call("cuUserObjectRetain", "qu", context=False)
def retain_object(machine, handle, count):
    machine.get(UserObject, handle).references += count


@call("cuUserObjectRelease", "qu", context=False)
def release_object(machine, handle, count):
    _drop(machine, machine.get(UserObject, handle), count)


@call("cuGraphRetainUserObject", "qquu", context=False)
def graph_retains(machine, graph, handle, count, flags):
    made, graph = machine.get(UserObject, handle), machine.get(Graph, graph)
    if not flags:  # 1: the reference is handed over
        made.references += count
    graph.objects += [made] * count


@call("cuGraphReleaseUserObject", "qqu", context=False)
def graph_releases(machine, graph, handle, count):
    made, graph = machine.get(UserObject, handle), machine.get(Graph, graph)
    for _ in range(count):
        graph.objects.remove(made)
    _drop(machine, made, count)
