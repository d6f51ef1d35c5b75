"""The optimizers: one file each, and the registry from which everything for all of them follows."""
