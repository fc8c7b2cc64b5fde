"""The seam to storage."""
