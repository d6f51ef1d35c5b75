"""A rule's loop as a custom call of XLA: the C function that XLA calls (`nagd_numba.adapters.xla` registers it).

header   where the fields of XLA's structures lie, from the C header that jaxlib ships
frame    what a compiled function reads of a call, and how it returns an error
pool     a parallel loop on XLA's own threads
checks   what is checked before anything is written
handler  the compiled function that XLA calls, for each rule
"""
