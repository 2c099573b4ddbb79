"""python -m wallcheck, the command where its script is not on the path"""

import sys

from wallcheck.cli import main

sys.exit(main())
