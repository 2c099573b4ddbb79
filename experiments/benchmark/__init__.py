"""Time and memory of wallcheck's methods beside other libraries'; see `__main__` for the command."""
