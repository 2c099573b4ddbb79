"""`report`: a run folder as one HTML file."""

import json

from jsonargparse import Namespace

from wallcheck import report as reports
from wallcheck.writing import at_home, say


def report(options: Namespace) -> int:
    run = at_home(options.run)
    path = reports.write(run, at_home(options.out) if options.out else run / "report.html")
    say(json.dumps({"report": str(path)}) if options.json else f"the report is {path}")
    return 0
