"""Where contexts, queries and targets come from, and when an answer is right."""
