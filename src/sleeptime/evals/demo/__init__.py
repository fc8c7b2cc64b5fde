"""The whole idea on one page, measured offline on the tiny model."""
