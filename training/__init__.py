"""The recipe of the tiny model. Not part of the installed package."""
