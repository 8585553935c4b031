# SPDX-License-Identifier: GPL-2.0-only
"""The option that writes the golden files anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/expected anew")
