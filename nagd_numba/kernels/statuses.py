"""What kernels return: `OK`, or why nothing was written.

LENGTH    arrays of different lengths, or of an impossible one
OVERLAP   arrays that share memory
HYPER     a hyper-parameter or an option out of its range
NULL      a null pointer
PLACES    a mask whose places are out of order, or out of range
RATES     a rate of an element out of its range
BOUNDS    a lower bound above the upper one
"""

OK, LENGTH, OVERLAP, HYPER, NULL, PLACES, RATES, BOUNDS = range(8)
