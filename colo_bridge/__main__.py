"""`python -m colo_bridge` is the command `colo-bridge`."""

import sys

from colo_bridge.cli.main import main

sys.exit(main())
