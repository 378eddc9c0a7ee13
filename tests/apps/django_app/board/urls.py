from pathlib import Path

from django.urls import path
from django.views.generic import RedirectView
from django.views.static import serve

from board import views

urlpatterns = [
    path("", views.page, name="page"),
    path("upload", views.upload),
    path("stream", views.stream),
    path("old", RedirectView.as_view(pattern_name="page", permanent=True)),
    path("broken", views.broken),
    path("static/<path:path>", serve, {"document_root": Path(__file__).parent / "static"}),
]
