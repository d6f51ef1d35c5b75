"""How fast the kernels are on this machine, beside their peers: what `nagd-numba bench` and the asv suites measure.

    timing.py     contenders in turn, and the ratios of their times
    machine.py    what the figures depend on: processor, threads, versions, other processes
    memory.py     the limit of the memory: bytes that it moves; products.py: multiply-adds that the processor makes
    steps.py      who makes a step: ours in several ways, and each peer; frameworks.py: PyTorch, JAX, Warp, Dr.Jit
    contenders.py what they have in common
    digits.py     the network and the data of the following
    training.py   who trains it; `inference.py`: who predicts with it, and finds its gradient
    adapters_torch.py  a step of the optimizers for PyTorch, beside PyTorch's
    sections.py   the sections of the command, row by row
    promises.py   the ratios that the project promises
    command.py    the command; `report.py`: rows as tables, JSON, Markdown; `picture.py` draws them

Only public functions of `nagd_numba` are measured, and imported by its name: the suites of asv bring this folder along
to measure older versions of the package.
"""
