"""The ground under every optimizer and network: how kernels are compiled, rounded, looped and called."""
