"""One compiled function for many problems at a time, a lane of a vector register for each.

A user writes a function of one problem, with the branches, loops and arrays that it needs.  LLVM's own vectorisers work
on the loops within it.  Here the function as a whole is taken: LLVM's code of it, in which everything that it calls was
compiled into it, becomes code that does the same for W problems, with vectors in the place of numbers.

    target         where Numba's code of a function comes from, before LLVM works on it
    mathematics    `exp` and `log` with the same bits alone and in lanes
    marks          what such a function says of itself
    instructions   the code as data;  `failures`: what it does when it fails is left out
    order          in which order blocks run when lanes are at different places
    analysis       what is the same in all lanes;  `memory`: what memory is whose
    vectorize      the vectors' code: control flow;  `values`, `operations`, `calls`: the rest
    merge          calls at different places of a function become one, for the lanes of all of them together
    modules        LLVM's passes, and machine code

Each lane does what the function does alone, in the same order: results are the same to the last bit.  Functions with
something that has no form for lanes (`Unfit`: calls of other libraries, pointers in memory, fastmath) stay as they are.
"""
