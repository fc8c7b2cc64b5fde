"""Repositories as contexts: a tree at a commit, its structural index, and which files a change will touch."""
