"""Hopper's machine code, executed on the CPU: what a kernel computes, moves and issues, with no GPU and no driver.

`listing.py` reads what nvdisasm prints, `operations.py` says what each instruction does, `machine.py` runs a block of
threads and counts.
"""
