"""Speed, as ratios measured in one run: asv suites, and commands that print a table (`benchmarks.compare`)."""
