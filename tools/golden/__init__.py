"""Makes the checkpoints of tests/golden; needs transformers, torch and gguf, which Octavo itself does not."""
