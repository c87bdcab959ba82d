"""One process for each engine that is measured: reads requests as JSON lines, answers with timings."""
