"""Spyglass: a preforking WSGI server that lives inside systemd. Asleep, an app costs nothing."""

__version__ = "0.1.0"
