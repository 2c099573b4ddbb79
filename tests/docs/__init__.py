"""The documentation holds what it says: blocks run, flags exist, pages are listed."""
