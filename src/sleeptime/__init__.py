"""Think about contexts before their queries come."""
