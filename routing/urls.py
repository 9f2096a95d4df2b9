"""Routes of the routing table's API, included at `api/routing`; each is there with and without a trailing slash."""

from django.urls import re_path

from routing import api

urlpatterns = [
    re_path(r"^/?$", api.RecordListView.as_view(), name="api-routing"),
    re_path(r"^/(?P<service>[^/]+)/?$", api.RecordView.as_view(), name="api-routing-record"),
]
