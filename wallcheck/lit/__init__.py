"""The only package that knows Lightning: training, and auditing as `predict`."""
