"""Makes the small golden checkpoints of tests/golden; needs transformers, torch and gguf, which Octavo itself does not."""
