"""Photographs: one reader for any image file, and what a folder of them holds. No torch."""

from wallcheck.photos._finding import Found, PhotoNotice, class_folders, find_photos, printable
from wallcheck.photos._reading import BACKGROUND, checked_side, expanded, read_photo

__all__ = [
    "BACKGROUND",
    "Found",
    "PhotoNotice",
    "checked_side",
    "class_folders",
    "expanded",
    "find_photos",
    "printable",
    "read_photo",
]
