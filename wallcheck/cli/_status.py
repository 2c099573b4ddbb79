"""What a command's exit status says."""

BROKEN = 1  # not blind, or nothing unseen (certify); a method leaks too much (audit)
WRONG = 2  # a user's error
INCOMPLETE = 3  # audited, but some maps are missing
INTERRUPTED = 130
