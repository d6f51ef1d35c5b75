"""Tell the driver what numba.cuda compiles: the IR of each kernel whose machine code it makes."""

from .. import emulator


def watch(programs):
    from numba.cuda.codegen import CUDACodeLibrary

    original = CUDACodeLibrary.get_cubin

    def get_cubin(self, cc=None):
        cubin = original(self, cc)
        texts = self.llvm_strs
        programs.add(bytes(cubin.code), lambda name: emulator.Kernel(texts, name, ()))
        return cubin

    CUDACodeLibrary.get_cubin = get_cubin
