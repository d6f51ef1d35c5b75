"""Tests that run in a process whose libcuda is the driver for tests: `test_driver.py` starts it."""
