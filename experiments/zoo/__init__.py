"""Do modern networks see through walls? `python -m experiments.zoo`; `__main__` is the manual."""
