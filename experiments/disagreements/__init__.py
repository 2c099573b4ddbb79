"""Where libraries and papers disagree, and by how much; see `__main__` for the command."""
