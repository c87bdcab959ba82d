"""The engine: queues, page accounting, the step loop, streams and the border to the engine process."""
