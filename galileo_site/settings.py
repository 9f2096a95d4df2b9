"""Django settings; the settings of an installation come from the environment (environment.py)."""

from django.core.exceptions import ImproperlyConfigured

from galileo_site.environment import NONE, PROJECT_ROOT, read_site
from loadgen.broker.options import redis_options
from routing.errors import InvalidInput

try:
    SITE = read_site()
except InvalidInput as invalid:
    raise ImproperlyConfigured(invalid.text) from None

if SITE.database["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()

GALILEO_REDIS_URL = SITE.redis.url
GALILEO_REDIS_OPTIONS = redis_options()
GALILEO_INGEST_QUEUES = SITE.ingest_queues
GALILEO_APPS_REPO_DIR = SITE.apps_repo_dir
GALILEO_API_RATE = SITE.api_rate
GALILEO_LOGIN_RATE = SITE.login_rate
GALILEO_TRUSTED_PROXIES = SITE.trusted_proxies
GALILEO_API_IS_OPEN = SITE.api_auth == NONE
GALILEO_START_TIMEOUT_S = 60
GALILEO_FINALIZE_TIMEOUT_S = 60

SECRET_KEY = SITE.secret_key
DEBUG = SITE.debug
ALLOWED_HOSTS = SITE.allowed_hosts
CSRF_TRUSTED_ORIGINS = SITE.csrf_trusted_origins

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "routing",
    "experiments",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "experiments.throttling.LoginLimitMiddleware",
]
ROOT_URLCONF = "galileo_site.urls"
WSGI_APPLICATION = "galileo_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT_ROOT / "galileo_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "galileo_site.urls.api_access",
            ]
        },
    }
]

DATABASES = {"default": SITE.database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["experiments.throttling.PasswordBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en-gb"
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "galileo_site.formats"
# The API's routes accept paths with and without a trailing slash; a redirect would lose the body of a POST.
APPEND_SLASH = False
# Below this path a proxy serves the web server; addresses in pages and redirects begin with it.
FORCE_SCRIPT_NAME = SITE.web_prefix or None

STATIC_URL = f"{SITE.web_prefix}/static/"
# Serves static files directly from the packages, so that no collectstatic is needed before the first start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",  # for commands with a user name and a password
        "experiments.api.access.OpenAccess",  # with galileo_api_auth=none
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.DjangoModelPermissions"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["experiments.api.parsing.StrictJSONParser"],
    "EXCEPTION_HANDLER": "experiments.api.problems.handle",
    "DEFAULT_PAGINATION_CLASS": None,
    "NON_FIELD_ERRORS_KEY": "body",
    "DEFAULT_SCHEMA_CLASS": "experiments.api.schema.Schema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Galileo",
    "DESCRIPTION": "Distributed load-testing experiments. docs/api.md describes what all routes have in common.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    # Swagger UI is served from a package, so that the page needs no internet.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api",
    "SERVERS": [{"url": SITE.web_prefix}] if SITE.web_prefix else [],
    "PREPROCESSING_HOOKS": ["experiments.api.schema.without_slashes"],
    "SORT_OPERATIONS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Status": "experiments.selectors.WORDS",
        "Phase": "experiments.models.ExperimentStatus",
        "WorkerStatus": "experiments.models.WorkerStatus",
    },
    "SORT_OPERATION_PARAMETERS": False,
}

# With galileo_https=true (behind a TLS proxy) cookies and redirects require TLS. The default is loopback without TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SITE.https
SECURE_HSTS_SECONDS = 31_536_000 if SITE.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SITE.https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SITE.https else None
SESSION_COOKIE_HTTPONLY = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "loadgen.protocol.logs.UtcFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": SITE.logging_level},
}
