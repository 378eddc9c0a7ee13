"""Tests of the parts, each in this one process or in a child that ends with its test:
no root, no systemd, no port of its own.
"""
