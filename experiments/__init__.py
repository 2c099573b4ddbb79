"""Scripts of the study; each docstring is its manual."""
