"""What was found, as a page, as files and in words."""
