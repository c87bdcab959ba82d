"""Octavo and its peers side by side: the same files, the same cores, one run; `python -m benchmarks.compare --help`."""
