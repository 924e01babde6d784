from django.urls import path

from storage import views

urlpatterns = [path("files/<path:key>", views.signed_file, name="signed-file")]
