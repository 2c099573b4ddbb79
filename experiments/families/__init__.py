"""Can every family of image classifiers be walled? `python -m experiments.families`; `__main__` is the manual."""
