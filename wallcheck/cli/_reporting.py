"""`report`: a run folder as one HTML file."""

import json

from jsonargparse import Namespace

from wallcheck.report import write
from wallcheck.writing import say


def report(options: Namespace) -> int:
    path = write(options.run, options.out)
    say(json.dumps({"report": str(path)}) if options.json else f"the report is {path}")
    return 0
