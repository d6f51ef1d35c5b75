"""asv suites (`step`, `mlp`, `overhead`, `cuda`), and commands: `gate`, `readme`, `dashboard`, `gpu`, `crossover`."""
