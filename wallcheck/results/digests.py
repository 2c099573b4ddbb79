"""Digests: of settings as JSON, and names of any kind as file names."""

import hashlib
import json
import re

LONGEST = 80  # letters of a name within a file name; file systems take 255 for all of it


def digest(value: object) -> str:
    """SHA-256 of a JSON-able value; equal values have equal digests, whatever the order of their keys."""
    return hashlib.sha256(plain(value).encode()).hexdigest()


def plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def file_name(name: str) -> str:
    """name in letters that every file system takes; names that differ stay different.

    >>> file_name("mix"), file_name("my/mix")
    ('mix', 'my-mix-7aacef9e')
    """
    simple = re.sub(r"[^A-Za-z0-9_.]+", "-", str(name))[:LONGEST]
    return simple if simple == name else f"{simple}-{hashlib.sha256(str(name).encode()).hexdigest()[:8]}"
