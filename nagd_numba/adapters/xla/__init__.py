"""A rule's loop as a custom call of XLA: `calls.call` is what an adapter needs of it.

header   where the fields of XLA's structures lie, from the C header that jaxlib ships
frame    what a compiled function reads of a call, and how it returns an error
pool     a parallel loop on XLA's own threads
handler  the compiled function that XLA calls
calls    its registration, and the call in a JAX program
"""
