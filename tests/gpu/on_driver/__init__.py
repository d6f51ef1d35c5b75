"""Tests that run on the CUDA driver for tests, in a process of their own: `tests/gpu/test_on_driver.py` starts it."""
