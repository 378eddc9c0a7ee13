"""A guest book in Django; see guestbook.py in ../../flask_app, which is the same in
Flask.
"""

import contextlib
import os
import pathlib
import secrets

STATE = pathlib.Path(os.environ["STATE_DIRECTORY"])


def key():
    """Made once: what is signed is to outlive a sleep."""
    with contextlib.suppress(FileExistsError), open(STATE / "key", "x", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48))
    return (STATE / "key").read_text("ascii")


SECRET_KEY = key()
ALLOWED_HOSTS = ["localhost"]
INSTALLED_APPS = ["django.contrib.sessions", "board"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "board.urls"
WSGI_APPLICATION = "board.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE / "board.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
# By default nobody hears of an error but ADMINS, by mail. stderr is the journal.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
