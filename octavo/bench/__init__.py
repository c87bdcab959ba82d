"""Measurements of the engine itself: what `octavo bench` prints."""
