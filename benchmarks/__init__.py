"""How fast the project is beside its peers: one script a question, `python -m benchmarks.SCRIPT --help`."""
