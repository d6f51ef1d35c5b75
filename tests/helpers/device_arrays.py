"""Arrays that say they live on a CUDA device."""


class OnDevice:
    """An object that says it lives on a CUDA device."""

    def __init__(self, n=20, pointer=1 << 20, **changes):
        self.__cuda_array_interface__ = {
            "shape": (n,),
            "strides": None,
            "typestr": "<f4",
            "data": (pointer, False),
            "version": 3,
            **changes,
        }
