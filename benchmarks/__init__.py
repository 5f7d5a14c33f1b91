"""The measurements: `python -m benchmarks [--full] [TOPIC …]`; each topic is a module with a function `run`."""
