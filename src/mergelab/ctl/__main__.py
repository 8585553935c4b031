# SPDX-License-Identifier: GPL-2.0-only
"""Entry point of the zipapp and of `python -m mergelab.ctl`."""

import sys

from mergelab.ctl.cli import main

sys.exit(main())
