import os

from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "board.settings")
application = get_asgi_application()
call_command("migrate", verbosity=0)
# Workers are forked from the process that has loaded this, and sqlite must not be taken
# across a fork.
connections.close_all()
