"""Routes of the API, included at `api`; each works with and without a trailing slash, as in the original."""

from django.urls import re_path

from experiments.api import apps, experiments, groups, index, routing, series, telemetry, traces, workers

APP_NAME = "(?P<name>[^/]{1,200})"
EXPERIMENT_ID = "(?P<experiment_id>[0-9A-Za-z-]{1,24})"
GROUP_ID = "(?P<group_id>[0-9A-Za-z-]{1,40})"
WORKER = "(?P<name>[^/]{1,63})"
SERVICE = "(?P<service>[^/]+)"

urlpatterns = [
    re_path(r"^/?$", index.IndexView.as_view(), name="api-index"),
    re_path(r"^/experiments/?$", experiments.ExperimentListView.as_view(), name="api-experiments"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/?$", experiments.ExperimentView.as_view(), name="api-experiment"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/cancel/?$", experiments.CancelView.as_view(), name="api-cancel"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/summary/?$", experiments.SummaryView.as_view(), name="api-summary"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/series/?$", series.SeriesView.as_view(), name="api-series"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/traces/?$", traces.TraceListView.as_view(), name="api-traces"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/captures/?$", traces.CaptureListView.as_view(), name="api-captures"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/telemetry/?$", telemetry.TelemetryView.as_view(), name="api-telemetry"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/events/?$", telemetry.EventListView.as_view(), name="api-events"),
    re_path(rf"^/experiments/{EXPERIMENT_ID}/tracing/?$", experiments.TracingView.as_view(), name="api-tracing"),
    re_path(r"^/groups/?$", groups.GroupListView.as_view(), name="api-groups"),
    re_path(rf"^/groups/{GROUP_ID}/?$", groups.GroupDetailView.as_view(), name="api-group"),
    re_path(rf"^/groups/{GROUP_ID}/command/?$", groups.GroupCommandView.as_view(), name="api-group-command"),
    re_path(rf"^/groups/{GROUP_ID}/clients/?$", groups.GroupClientsView.as_view(), name="api-group-clients"),
    re_path(r"^/services/?$", routing.ServiceListView.as_view(), name="api-services"),
    re_path(r"^/worker/?$", workers.WorkerNamesView.as_view(), name="api-worker-names"),
    re_path(r"^/worker/ping/?$", workers.PingView.as_view(), name="api-ping"),
    re_path(rf"^/worker/{WORKER}/?$", workers.WorkerView.as_view(), name="api-worker"),
    re_path(r"^/workers/?$", workers.WorkerListView.as_view(), name="api-workers"),
    re_path(rf"^/workers/{WORKER}/?$", workers.WorkerView.as_view(), name="api-worker"),
    re_path(r"^/routing/?$", routing.RecordListView.as_view(), name="api-routing"),
    re_path(rf"^/routing/{SERVICE}/?$", routing.RecordView.as_view(), name="api-routing-record"),
    re_path(r"^/apps/?$", apps.AppListView.as_view(), name="api-apps"),
    re_path(rf"^/apps/{APP_NAME}/?$", apps.AppView.as_view(), name="api-app"),
    re_path(rf"^/apps/{APP_NAME}/download/?$", apps.AppDownloadView.as_view(), name="api-app-download"),
    re_path(rf"^/apps/{APP_NAME}/versions/?$", apps.AppVersionsView.as_view(), name="api-app-versions"),
    re_path(r"^/schema/?$", index.SchemaView.as_view(), name="api-schema"),
    re_path(r"^/docs/?$", index.DocsView.as_view(), name="api-docs"),
    re_path(r"^/", index.UnknownView.as_view(), name="api-unknown"),
]
