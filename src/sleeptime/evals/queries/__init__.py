"""More queries about contexts, written by one model and confirmed by another."""
