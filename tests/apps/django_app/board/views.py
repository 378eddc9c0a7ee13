import hashlib
import time

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from board.models import Entry


def page(request):
    if request.method == "POST":
        Entry.objects.create(text=request.POST["text"])
        return redirect("page", permanent=False)
    request.session["visits"] = request.session.get("visits", 0) + 1
    return render(request, "page.html", {"entries": Entry.objects.order_by("id"), "visits": request.session["visits"]})


@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return HttpResponse(digest.hexdigest(), headers={"X-File": file.name})


def stream(request):
    return StreamingHttpResponse(times(), content_type="text/plain")


def times():
    for _ in range(10):
        yield f"{time.monotonic()}\n"
        time.sleep(0.05)


def broken(request):
    raise RuntimeError("this page is broken")
