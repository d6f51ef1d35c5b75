"""The driver API's error codes."""

CODES = {
    "SUCCESS": 0,
    "INVALID_VALUE": 1,
    "OUT_OF_MEMORY": 2,
    "NOT_INITIALIZED": 3,
    "NO_DEVICE": 100,
    "INVALID_DEVICE": 101,
    "INVALID_IMAGE": 200,
    "INVALID_CONTEXT": 201,
    "NO_BINARY_FOR_GPU": 209,
    "INVALID_SOURCE": 300,
    "INVALID_HANDLE": 400,
    "ILLEGAL_STATE": 401,
    "NOT_FOUND": 500,
    "NOT_READY": 600,
    "ILLEGAL_ADDRESS": 700,
    "LAUNCH_OUT_OF_RESOURCES": 701,
    "CONTEXT_IS_DESTROYED": 709,
    "MISALIGNED_ADDRESS": 716,
    "LAUNCH_FAILED": 719,
    "NOT_PERMITTED": 800,
    "NOT_SUPPORTED": 801,
    "STREAM_CAPTURE_UNSUPPORTED": 900,
    "STREAM_CAPTURE_INVALIDATED": 901,
    "STREAM_CAPTURE_MERGE": 902,
    "STREAM_CAPTURE_UNMATCHED": 903,
    "STREAM_CAPTURE_UNJOINED": 904,
    "STREAM_CAPTURE_ISOLATION": 905,
    "STREAM_CAPTURE_IMPLICIT": 906,
    "CAPTURED_EVENT": 907,
    "STREAM_CAPTURE_WRONG_THREAD": 908,
    "UNKNOWN": 999,
}
NAMES = {code: name for name, code in CODES.items()}


class CudaError(Exception):
    """A call fails with this error."""

    def __init__(self, name, why=""):
        super().__init__(f"CUDA_ERROR_{name}{': ' + why if why else ''}")
        self.name, self.code, self.why = name, CODES[name], why
