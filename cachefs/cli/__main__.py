"""``python -m cachefs.cli``: the command ``cachefs`` where no script is installed."""

import sys

from cachefs.cli.main import run

sys.exit(run())
