"""Values and decisions: pure, no await, no I/O, no clock, no randomness."""
