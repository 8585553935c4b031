# SPDX-License-Identifier: GPL-2.0-only
"""Entry point of the zipapp and of `python -m mergelab.host`."""

import sys

from mergelab.host.cli import main

sys.exit(main())
