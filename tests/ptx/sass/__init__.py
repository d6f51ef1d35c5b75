"""Hopper's machine code, executed on the CPU: what a kernel computes, moves and issues, with no GPU and no driver.

`listing.py` reads what nvdisasm prints, `operations.py` names the function of each instruction (of whole numbers, of
predicates, of floating-point numbers, of conversions), `machine.py` runs a block of threads and counts.
"""
