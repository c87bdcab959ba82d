"""Makes models of real shapes with random weights: for measuring speed and memory, where values do not matter."""
