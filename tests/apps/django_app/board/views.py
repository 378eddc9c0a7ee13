import hashlib
import time

from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from board.models import Entry


def page(request):
    if request.method == "POST":
        Entry.objects.create(text=request.POST["text"])
        return redirect("page", permanent=False)
    request.session["visits"] = request.session.get("visits", 0) + 1
    return render(
        request,
        "page.html",
        {"entries": Entry.objects.order_by("id"), "visits": request.session["visits"]},
    )


@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return HttpResponse(digest.hexdigest(), headers={"X-File": file.name})


def stream(request):
    return StreamingHttpResponse(times(request.path), content_type="text/plain")


def times(path):
    """The database is asked before each piece: Django keeps a connection for each
    thread, and closes that of the thread that ends the request.
    """
    for number in range(10):
        with connection.cursor() as cursor:
            [text] = cursor.execute("SELECT %s", [f"{number} of {path}"]).fetchone()
        yield f"{time.monotonic()} {text}\n"
        time.sleep(0.05)


def broken(request):
    raise RuntimeError("this page is broken")
