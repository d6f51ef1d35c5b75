"""What maintainers run: `python -m tools.release`, `python -m tools.lowest`."""
