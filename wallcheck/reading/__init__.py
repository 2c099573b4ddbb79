"""The reading of one method: its leakage on some images, with all that a stranger needs to believe it.

import wallcheck as wc
reading = wc.leakage(explain)            # any function (model, images, targets) -> maps, or another library's object
assert reading <= 0.01, reading
"""

from wallcheck.reading._asking import leakage, reading_on
from wallcheck.reading._record import EVERYWHERE, Reading, Unreadable, nothing_said

__all__ = ["EVERYWHERE", "Reading", "Unreadable", "leakage", "nothing_said", "reading_on"]
