"""Hypothesis as for the parser of HTTP."""

import http11.conftest  # noqa: F401
