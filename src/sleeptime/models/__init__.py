"""The seam to language models."""
