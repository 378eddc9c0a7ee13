"""Hypothesis as a test on a busy machine wants it: no clock decides, nothing is left in
the tree.
"""

from hypothesis import settings

settings.register_profile("spyglass", deadline=None, database=None, print_blob=True)
settings.load_profile("spyglass")
