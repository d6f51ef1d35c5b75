"""`python -m nagd_numba`: the same as the command `nagd-numba`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
