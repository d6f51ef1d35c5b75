"""Networks on the CPU: products in vector registers, passes, training steps, each compiled once."""
