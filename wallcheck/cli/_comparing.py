"""`compare`: what differs, image by image, between two audits."""

import json

from jsonargparse import Namespace

from wallcheck.comparing import compared, listing
from wallcheck.terminal import markdown, show_listing
from wallcheck.writing import say


def compare(options: Namespace) -> int:
    found = compared(options.first, options.second, options.nets, options.metric, options.methods)
    if options.json:
        say(json.dumps(json.loads(found.to_json(orient="records")), indent=1))
    elif options.markdown:
        say(markdown(listing(found, options.metric)))
    else:
        show_listing(listing(found, options.metric))
    return 0
