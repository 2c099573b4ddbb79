"""python -m wallcheck.cli"""

import sys

from wallcheck.cli import main

sys.exit(main())
