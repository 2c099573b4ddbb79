"""The version, for who must not import the door."""

__version__ = "0.1.0"
