"""The same in Django: its own two databases, its own uploads."""

import os

import django
import everything
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    FILE_UPLOAD_MAX_MEMORY_SIZE=0,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{everything.STATE}/django.sqlite",
        },
        "other": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "needs",
            "HOST": "/run/postgresql",
        },
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402, once there are settings
from django.db import connections  # noqa: E402


def view(request):
    with connections["default"].cursor() as cursor:
        cursor.execute("create table if not exists visits (n integer)")
        cursor.execute("insert into visits values (%s)", [os.getpid()])
        cursor.execute("select count(*) from visits")
        [visits] = cursor.fetchone()
    with connections["other"].cursor() as cursor:
        cursor.execute("insert into visits values ('django')")
        cursor.execute("select current_user")
        [role] = cursor.fetchone()
    return HttpResponse(
        everything.told(request.FILES["file"], visits, role), content_type="application/json"
    )


urlpatterns = [path("", view)]
application = get_wsgi_application()
