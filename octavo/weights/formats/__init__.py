"""What the bits of a tensor's blocks mean, by format name."""
