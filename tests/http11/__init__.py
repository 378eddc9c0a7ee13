"""Tests of the protocol's pure layers: bytes in, values out. The wire cases in cases/
are driven elsewhere, and here for their splits.
"""
