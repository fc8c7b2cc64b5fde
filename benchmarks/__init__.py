"""Proofs too long for the tests; each prints its table and says whether its targets are met."""
