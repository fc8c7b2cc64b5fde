"""Evaluation beside the library: it uses the public API, and the library never imports it."""
