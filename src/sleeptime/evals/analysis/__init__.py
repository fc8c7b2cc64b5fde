"""From rows to figures with their intervals, and what they say of each claim. Pure."""
