"""A simulator of deployments: the library's own decisions against triggers and hindsight. `measure` is the way in."""
