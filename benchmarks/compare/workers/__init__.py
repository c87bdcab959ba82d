"""One process for each offline engine under test: prints timings of workloads as JSON; runs in the engine's own
environment, so nothing here imports Octavo but its own worker."""
