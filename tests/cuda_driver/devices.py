"""What the devices are."""

from dataclasses import dataclass

# CU_DEVICE_ATTRIBUTE_* by number; what is not here is 0.
FIXED = {
    1: 1024,  # MAX_THREADS_PER_BLOCK
    2: 1024,  # MAX_BLOCK_DIM_X, _Y, _Z
    3: 1024,
    4: 64,
    5: 2**31 - 1,  # MAX_GRID_DIM_X, _Y, _Z
    6: 65535,
    7: 65535,
    8: 48 << 10,  # MAX_SHARED_MEMORY_PER_BLOCK
    9: 64 << 10,  # TOTAL_CONSTANT_MEMORY
    10: 32,  # WARP_SIZE
    11: 2**31 - 1,  # MAX_PITCH
    12: 65536,  # MAX_REGISTERS_PER_BLOCK
    13: 1_785_000,  # CLOCK_RATE
    14: 512,  # TEXTURE_ALIGNMENT
    15: 1,  # GPU_OVERLAP
    19: 1,  # CAN_MAP_HOST_MEMORY
    31: 1,  # CONCURRENT_KERNELS
    33: 1,  # PCI_BUS_ID
    36: 2_619_000,  # MEMORY_CLOCK_RATE
    37: 5120,  # GLOBAL_MEMORY_BUS_WIDTH
    38: 50 << 20,  # L2_CACHE_SIZE
    39: 2048,  # MAX_THREADS_PER_MULTIPROCESSOR
    40: 3,  # ASYNC_ENGINE_COUNT
    41: 1,  # UNIFIED_ADDRESSING
    78: 1,  # STREAM_PRIORITIES_SUPPORTED
    81: 228 << 10,  # MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    82: 65536,  # MAX_REGISTERS_PER_MULTIPROCESSOR
    83: 1,  # MANAGED_MEMORY
    95: 1,  # COOPERATIVE_LAUNCH
    97: 227 << 10,  # MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    106: 32,  # MAX_BLOCKS_PER_MULTIPROCESSOR
    111: 1024,  # RESERVED_SHARED_MEMORY_PER_BLOCK
    115: 1,  # MEMORY_POOLS_SUPPORTED
}
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76
THREADS, BLOCK, GRID = FIXED[1], (FIXED[2], FIXED[3], FIXED[4]), (FIXED[5], FIXED[6], FIXED[7])
REGISTERS, SHARED, SHARED_OPTIN = FIXED[12], FIXED[8], FIXED[97]


@dataclass
class Device:
    """A device of an architecture; few multiprocessors, since grids follow their number and are emulated."""

    ordinal: int
    capability: tuple = (9, 0)
    multiprocessors: int = 2
    memory: int = 4 << 30

    @property
    def name(self):
        return f"CUDA device {self.ordinal} for tests (sm_{self.capability[0]}{self.capability[1]})"

    def attribute(self, number):
        own = {MULTIPROCESSORS: self.multiprocessors, MAJOR: self.capability[0], MINOR: self.capability[1]}
        return own.get(number, FIXED.get(number, 0))

    def runs(self, capability):
        """Can it run machine code for an architecture?"""
        return capability[0] == self.capability[0] and capability[1] <= self.capability[1]
