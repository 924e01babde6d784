"""Every setting of the product, flat, each with what it means and a sane default.

A value comes from the environment variable of the same name; a wrong value stops the process with the name of the
setting. The comment of a setting stands before it or beside it.

Who reads settings: Django code, at the moment of use (`django.conf.settings`), as Django's users and pytest's
`settings` fixture expect. That is this package, generation, workers/stages, workers/housekeeping, workers/recovery, and
in workers/gpu what works with rows. Who does not: workers/engine, generation/queue, postprocessing, storage and the
rest of workers/gpu. They are given frozen configuration objects, made by entry points (workers/gpu/main.py and
worker.py, commands), by workers/stages and by storage/store.py; only storage/signing.py reads its secret keys itself. A
default that both sides know stands in config.py. `make lint` and imagegenx_site/tests/test_settings.py hold this.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from imagegenx_site import log_lines
from imagegenx_site.config import SCOPES, GpuConfig, QueueConfig, SpoolConfig, SurgeConfig
from imagegenx_site.environment import (
    address,
    ascending,
    choice,
    counts,
    env,
    file_mask,
    limits,
    networks,
    number,
    proxies,
    secure_address,
    shares,
    worker_name,
)
from imagegenx_site.tracing import spans

BASE_DIR = Path(__file__).resolve().parent.parent

# ---- The process and its data --------------------------------------------------------------------------------------
# permissions that files of the product never have: only its own account reads what is in the data folder
UMASK = file_mask("UMASK", "077")
os.umask(UMASK)
VAR_DIR = Path(env.str("VAR_DIR", str(BASE_DIR / "var"))).resolve()  # data folder: services, files, logs
DEBUG = env.bool("DEBUG", False)  # Django's error pages; never on where strangers can reach the server
SECRET_KEY = env.str("SECRET_KEY", "")  # signs sessions, image URLs and event tokens; `make run` makes one and keeps it
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Give it 50 random characters, or start with `make run`, which makes one."
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])  # Host headers answered
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])  # https origins of the admin behind a proxy
PUBLIC_URL = env.str("PUBLIC_URL", "").rstrip("/")  # address that clients see; empty: taken from each request
TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"
# of the admin, chosen by the browser; the API and its faults are in English, the page has words of its own
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]

# ---- Services ------------------------------------------------------------------------------------------------------
DATABASES = {"default": env.db("DATABASE_URL", default="postgres://postgres@127.0.0.1:5432/imagegenx")}  # the truth
DATABASES["default"]["CONN_MAX_AGE"] = int(number("DATABASE_CONN_MAX_AGE", 60, 0, 86400))  # s a connection is kept
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True  # a restarted Postgres costs one reconnect, not an error
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 5  # s
# behind a pooler in transaction mode, where a cursor's next fetch may go to another connection
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = env.bool("DISABLE_SERVER_SIDE_CURSORS", False)
REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0")  # broker, buffer, limits, events, caches: one instance
REDIS_TIMEOUT_S = number("REDIS_TIMEOUT_S", 5, 0.1, 60)  # s until a call to Redis is given up

# ---- Processes -----------------------------------------------------------------------------------------------------
# this process among those of its kind, as a pod's or a container's name; empty: that of the kind
WORKER_NAME = worker_name("WORKER_NAME")
BUILD_COMMIT = env.str("BUILD_COMMIT", "")  # of an image: the commit that it was built from, for imagegenx_build_info
# members of each pool of processes, as gpu-worker:4,cpu-worker:2; a pool not named: as many as there were
WORKERS_WANTED = counts("WORKERS_WANTED")

# ---- Queues --------------------------------------------------------------------------------------------------------
QUEUE_SHARES = shares("QUEUE_SHARES", QueueConfig.shares)  # of work of P0 to P3 when all are full
# ms a waiting task is held back for others of its batch key
BATCH_WINDOW_MS = int(number("BATCH_WINDOW_MS", QueueConfig.window_ms, 0, 5000))
BATCH_MIN = int(number("BATCH_MIN", QueueConfig.min_batch, 1, 64))  # so many of one batch key end it at once
BATCH_LIMITS = limits("BATCH_LIMITS", GpuConfig().batch_limits)  # pictures, by the longer side in pixels
RESULT_CACHE_BYTES = int(number("RESULT_CACHE_BYTES", 20 << 30, 1 << 20, 1 << 44))  # of them all; the oldest go first
# hours a picture stays ready for identical requests with the same seed; 0: none is kept
RESULT_CACHE_HOURS = number("RESULT_CACHE_HOURS", 24, 0, 720)
# s of waiting work from which free plans get smaller pictures
SURGE_LOWER_S = number("SURGE_LOWER_S", SurgeConfig.lower_s, 1, 86400)
# s of waiting work from which free plans are refused, to come back later
SURGE_REFUSE_S = number("SURGE_REFUSE_S", SurgeConfig.refuse_s, 1, 86400)
# longest side in pixels that free plans get in between
SURGE_SIDE = int(number("SURGE_SIDE", SurgeConfig.lowered_side, 256, 2048))
MAX_ATTEMPTS = int(number("MAX_ATTEMPTS", 3, 1, 10))  # claims of one task, worker crashes included, before it fails
STAGE_SECONDS = int(number("STAGE_SECONDS", 45, 5, 900))  # s a stage may be held; a dead worker's is free then
STAGE_MAX_ATTEMPTS = int(number("STAGE_MAX_ATTEMPTS", 5, 1, 50))  # tries of one stage before the task fails
# waiting tasks with the same work that one CPU worker takes at once
POSTPROCESS_GROUP = int(number("POSTPROCESS_GROUP", 8, 1, 64))

# ---- GPU worker ----------------------------------------------------------------------------------------------------
GPU_DEVICE = env.str("GPU_DEVICE", GpuConfig.device)  # auto, cpu, cuda:0 ...
GPU_MODELS = env.list("GPU_MODELS", default=[])  # names of the models this worker serves; empty: all
# this worker's pool: what one of its members does, each of them can do; empty: named by GPU_MODELS
WORKER_POOL = env.str("WORKER_POOL", "") or f"gpu-worker/{'+'.join(sorted(GPU_MODELS))}".removesuffix("/")
# measured batch limits by model, size and device; workers may share the file
CALIBRATION_FILE = str(Path(env.str("CALIBRATION_FILE", str(VAR_DIR / "calibration.json"))))
GPU_PRELOAD = env.list("GPU_PRELOAD", default=["mini"])  # models loaded at start
# s until an unused model leaves the memory
GPU_IDLE_UNLOAD_S = number("GPU_IDLE_UNLOAD_S", GpuConfig.idle_unload_s, 1, 86400)
GPU_MEMORY_GB = number("GPU_MEMORY_GB", 0, 0, 1024)  # GB the models may take; 0: 60 % of the GPU, half of a CPU's
# GB that paused work may hold; beyond it tasks go back to wait
GPU_PAUSED_GB = number("GPU_PAUSED_GB", GpuConfig.paused_gb, 0, 1024)
# ms of a forward pass from which more rows are taken only if each becomes cheaper: P0 waits for the pass that runs
STEP_MAX_MS = number("STEP_MAX_MS", 1000 * GpuConfig.step_max_s, 1, 60_000)
# rows a batch may have, as 2,4,8,16, for models with the option `compile`: each count is compiled once; empty: any
GPU_ROW_BUCKETS = ascending("GPU_ROW_BUCKETS")
# of models that name none; auto: bf16 on a GPU, fp32 on a CPU; lower ones are taken where memory is short
GPU_PRECISION = choice("GPU_PRECISION", "auto", ("auto", "fp32", "fp16", "bf16", "int8"))
# pictures decoded at once beside the steps, a CPU thread each; -1: as many as processors on a CPU, none on a GPU
DECODER_THREADS = int(number("DECODER_THREADS", -1, -1, 64))
TORCH_THREADS = int(number("TORCH_THREADS", 0, 0, 256))  # CPU threads of the engine; 0: one for each core it may use
# what runs the models on a CPU that name none; auto: measured once here, where a model has graphs beside it
GPU_RUNTIME = choice("GPU_RUNTIME", "auto", ("auto", "onnx", "eager"))
# which runtime was quicker, by graph and machine; workers may share the file
RUNTIMES_FILE = str(Path(env.str("RUNTIMES_FILE", str(Path(CALIBRATION_FILE).with_name("runtimes.json")))))
# seconds that a stopping GPU worker may still spend on its tasks
STOP_SECONDS = number("STOP_SECONDS", GpuConfig.stop_s, 0, 3600)
# seconds without a finished step, after which the watchdog kills a worker
HANG_SECONDS = number("HANG_SECONDS", GpuConfig.hang_s, 1, 3600)

# ---- Pictures ------------------------------------------------------------------------------------------------------
MEDIA_ROOT = str(Path(env.str("MEDIA_ROOT", str(VAR_DIR / "media"))))  # local disk store of finished pictures
RAW_ROOT = str(Path(env.str("RAW_ROOT", str(VAR_DIR / "raw"))))  # lossless pictures between GPU and post-processing
SPOOL_ROOT = str(Path(env.str("SPOOL_ROOT", str(VAR_DIR / "spool"))))  # pictures kept while the object store is away
THUMBNAIL_CACHE_BYTES = int(number("THUMBNAIL_CACHE_BYTES", 64 << 20, 1 << 16, 1 << 34))  # of thumbnails in Redis
ARCHIVE_AFTER_DAYS = int(number("ARCHIVE_AFTER_DAYS", 90, 0, 3650))  # unopened so long: archived; 0: never
# how fast and dear S3 restores from GLACIER and DEEP_ARCHIVE (no Expedited there: Standard): minutes, hours, longer
ARCHIVE_RESTORE_TIER = choice("ARCHIVE_RESTORE_TIER", "Standard", ("Expedited", "Standard", "Bulk"))
# bytes that may wait for the store
SPOOL_MAX_BYTES = int(number("SPOOL_MAX_BYTES", SpoolConfig.max_bytes, 1 << 20, 1 << 44))
URL_SECONDS = int(number("URL_SECONDS", 3600, 1, 604800))  # seconds until a signed picture URL expires
IMAGE_STORE = choice("IMAGE_STORE", "disk", ("disk", "s3"))  # where finished pictures live
S3_BUCKET = env.str("S3_BUCKET", "imagegenx")  # bucket of the finished pictures, with IMAGE_STORE=s3
S3_ENDPOINT_URL = env.str("S3_ENDPOINT_URL", "") or None  # for stores other than AWS
S3_REGION = env.str("S3_REGION", "") or None  # region of the bucket
# LoRAs: disk: LORA_ROOT, shared by web and GPU workers; s3: S3_BUCKET, and LORA_ROOT is each machine's cache
LORA_STORE = choice("LORA_STORE", "disk", ("disk", "s3"))
LORA_CACHE_BYTES = int(number("LORA_CACHE_BYTES", 20 << 30, 1 << 20, 1 << 44))  # of that cache
# lossless pictures between GPU and post-processing, and those kept for identical requests: RAW_ROOT, shared by GPU, CPU
# and IO workers, or a bucket of their own, without versions (`manage.py prepare_bucket`)
RAW_STORE = choice("RAW_STORE", "disk", ("disk", "s3"))
S3_RAW_BUCKET = env.str("S3_RAW_BUCKET", "") or f"{S3_BUCKET}-raw"  # that bucket, with RAW_STORE=s3
_S3 = {
    "BACKEND": "storages.backends.s3.S3Storage",
    "OPTIONS": {
        "bucket_name": S3_BUCKET,
        "endpoint_url": S3_ENDPOINT_URL,
        "region_name": S3_REGION,
        "access_key": env.str("S3_ACCESS_KEY", "") or None,  # empty: the machine's role
        "secret_key": env.str("S3_SECRET_KEY", "") or None,
        "file_overwrite": True,  # keys carry the content's hash, so the same key is the same bytes
        "default_acl": None,
        "querystring_expire": URL_SECONDS,
        "signature_version": "s3v4",
        "addressing_style": env.str("S3_ADDRESSING", "auto"),
    },
}
_DISK = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": MEDIA_ROOT, "base_url": None},
}
_S3_RAW = {**_S3, "OPTIONS": {**_S3["OPTIONS"], "bucket_name": S3_RAW_BUCKET}}  # type: ignore[dict-item]
_RAW = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": RAW_ROOT, "base_url": None}}
STORAGES = {
    "default": _DISK,
    "images": _S3 if IMAGE_STORE == "s3" else _DISK,
    "raw": _S3_RAW if RAW_STORE == "s3" else _RAW,
    "loras": _S3,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# ONNX files x2.onnx, x4.onnx
SUPERRES_DIR = env.str("SUPERRES_DIR", str(BASE_DIR / "fixtures" / "models" / "superres"))
C2PA_CERTIFICATE = env.str("C2PA_CERTIFICATE", "")  # PEM chain that signs provenance; empty: it can't be asked for
C2PA_KEY = env.str("C2PA_KEY", "")  # its private key, PEM (PKCS #8)
if bool(C2PA_CERTIFICATE) != bool(C2PA_KEY):
    raise ImproperlyConfigured("C2PA_CERTIFICATE and C2PA_KEY belong together: set both or neither.")
# of C2PA_KEY
C2PA_ALGORITHM = choice("C2PA_ALGORITHM", "es256", ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"))
C2PA_TIMESTAMP_URL = env.str("C2PA_TIMESTAMP_URL", "")  # time-stamping authority (RFC 3161); empty: none
C2PA_ALWAYS = env.bool("C2PA_ALWAYS", False)  # sign also where a request does not ask, unless it wants no metadata
if C2PA_ALWAYS and not C2PA_CERTIFICATE:
    raise ImproperlyConfigured("C2PA_ALWAYS needs C2PA_CERTIFICATE and C2PA_KEY.")
HF_ENDPOINT = env.str("HF_ENDPOINT", "")  # the hub that `models pull` asks; empty: the client's own
HF_TOKEN = env.str("HF_TOKEN", "")  # of a person who agreed to licences there
# models that were pulled or imported; relative sources start here. Those that ship need no setting
MODELS_DIR = str(Path(env.str("MODELS_DIR", str(VAR_DIR / "models"))).resolve())

# ---- API -----------------------------------------------------------------------------------------------------------
MAX_BODY_BYTES = int(number("MAX_BODY_BYTES", 64 << 20, 1 << 10, 1 << 31))  # largest request body
FREE_BODY_BYTES = int(number("FREE_BODY_BYTES", 1 << 20, 1 << 10, 1 << 31))  # of it, before a key is looked at
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
FILE_UPLOAD_PERMISSIONS = 0o666 & ~UMASK  # Django would make files of its stores readable by everybody
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o777 & ~UMASK
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
MAX_WAIT_SECONDS = number("MAX_WAIT_SECONDS", 60, 1, 600)  # s that `Prefer: wait=n` may hold an answer
COMPAT_WAIT_SECONDS = number("COMPAT_WAIT_SECONDS", 300, 1, 3600)  # s that /v1 and /sdapi wait for their pictures
# id (igx_<id>_...) of the key that requests without one have at the children's doors (/generate, /status, /result);
# its profile must allow child-safe styles only; empty: these doors want a key like all others
CHILDREN_KEY = env.str("CHILDREN_KEY", "")
_OPENAI = ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "chatgpt-image-latest"]
# names for which /v1 takes the default model, unless a model has the name itself
OPENAI_ALIASES = env.list("OPENAI_ALIASES", default=[*_OPENAI, "dall-e-2", "dall-e-3"])
# CIDR blocks that webhooks and picture URLs may reach although private
PRIVATE_CALLBACKS = networks("PRIVATE_CALLBACKS")
WEB_THREADS = int(number("WEB_THREADS", 12, 1, 500))  # threads, and Postgres connections, of one web process
KEY_KEPT_S = number("KEY_KEPT_S", 1, 0, 60)  # s that a web process goes on with what it knows of an API key; 0: not
RATE_WINDOW_S = int(number("RATE_WINDOW_S", 1, 1, 3600))  # s over which a plan's requests per second are counted
ANONYMOUS_RPS = int(number("ANONYMOUS_RPS", 30, 1, 100000))  # requests/s per IP address without a valid key
# proxies in front whose X-Forwarded-For and -Proto are believed: their addresses or networks, or how many there are
TRUSTED_PROXIES = proxies("TRUSTED_PROXIES")
WEB_PORT = int(number("PORT", 8000, 0, 65535))  # where web listens; no webhook goes there on this machine
# ports that a Host header may name for links, beside web's own, 80 and 443; empty: behind a proxy any
HOST_PORTS = ascending("HOST_PORTS")
MAX_INPUT_BYTES = int(number("MAX_INPUT_BYTES", 20 << 20, 1 << 10, 1 << 30))  # largest picture that a request brings
MAX_INPUT_PIXELS = int(number("MAX_INPUT_PIXELS", 40_000_000, 1 << 16, 1 << 30))  # its largest width x height
INPUT_TIMEOUT_S = number("INPUT_TIMEOUT_S", 20, 1, 120)  # s to fetch a picture from a URL, redirects included
# What one customer may have under way at once, so that nobody stops the others (imagegenx_site/slots.py). Each web
# process counts for itself.
FETCHES_PER_USER = int(number("FETCHES_PER_USER", 16, 1, 10000))  # requests whose pictures are being fetched from URLs
FETCHES = int(number("FETCHES", 128, 1, 10000))  # the same of all users together
OUTBOUND_PER_HOST = int(number("OUTBOUND_PER_HOST", 16, 1, 10000))  # requests to one host, of any process
UPLOADS_PER_USER = int(number("UPLOADS_PER_USER", 8, 1, 10000))  # requests with bodies over FREE_BODY_BYTES
LORA_UPLOADS_PER_USER = int(number("LORA_UPLOADS_PER_USER", 2, 1, 100))  # the same of LoRA files
UPLOADS_PER_ADDRESS = int(number("UPLOADS_PER_ADDRESS", 100, 1, 100000))  # smaller bodies that come piece by piece
STREAMS_PER_USER = int(number("STREAMS_PER_USER", 500, 1, 100000))  # open event streams of a user's tasks
DOWNLOADS_PER_USER = int(number("DOWNLOADS_PER_USER", 4, 1, 1000))  # ZIP files that are being read
PICTURE_REQUESTS_PER_USER = int(number("PICTURE_REQUESTS_PER_USER", 64, 1, 10000))  # requests with pictures, in all
PICTURES_PER_USER = int(number("PICTURES_PER_USER", 2, 1, 500))  # requests whose pictures are being decoded
LORA_ROOT = str(Path(env.str("LORA_ROOT", str(VAR_DIR / "loras"))))  # uploaded LoRAs; GPU workers read the same folder
MAX_LORA_BYTES = int(number("MAX_LORA_BYTES", 1 << 30, 1 << 10, 1 << 33))  # largest LoRA file
EVENT_TOKEN_SECONDS = int(number("EVENT_TOKEN_SECONDS", 600, 1, 86400))  # s a browser's token for events lives
# undeliverable events in a row, after which an endpoint is disabled
WEBHOOK_GIVE_UP_AFTER = int(number("WEBHOOK_GIVE_UP_AFTER", 5, 1, 1000))
WEBHOOK_TIMEOUT_S = number("WEBHOOK_TIMEOUT_S", 15, 1, 60)  # s until a webhook attempt counts as failed, all in all
WEBHOOKS_PER_USER = int(number("WEBHOOKS_PER_USER", 4, 1, 1000))  # attempts of one user at once, of all workers
WEBHOOKS_PER_HOST = int(number("WEBHOOKS_PER_HOST", 8, 1, 1000))  # attempts at one host at once, of all workers
HISTORY_DAYS = int(number("HISTORY_DAYS", 90, 1, 3650))  # days that tasks and pictures are kept
PARTITIONS_AHEAD_DAYS = int(number("PARTITIONS_AHEAD_DAYS", 7, 1, 60))  # daily partitions made before they are needed
# translator of prompts that a model does not read (generation/api/bounds/translation.py) and its key; empty: none
TRANSLATOR_URL, TRANSLATOR_KEY = address("TRANSLATOR_URL"), env.str("TRANSLATOR_KEY", "")
TRANSLATOR_TIMEOUT_S = number("TRANSLATOR_TIMEOUT_S", 5, 0.1, 60)  # s for a request's texts; then they stay as they are
# class that looks at finished pictures (workers/stages/picture_check.py); empty: none
IMAGE_CHECKER = env.str("IMAGE_CHECKER", "")
IMAGE_CHECK = choice("IMAGE_CHECK", "all", ("all", "profiles"))  # at all, or at those of profiles that ask for it

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["generation.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["generation.api.envelope.EnvelopeRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "generation.api.envelope.AlwaysJson",
    "DEFAULT_PARSER_CLASSES": ["generation.api.validation.JSONParser"],
    "EXCEPTION_HANDLER": "generation.api.envelope.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
OAUTH2_PROVIDER = {
    "SCOPES": dict(SCOPES),
    "DEFAULT_SCOPES": ["generate", "read"],
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 86400,
    "ROTATE_REFRESH_TOKEN": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,  # a used refresh token that comes again ends all of its grant
    "PKCE_REQUIRED": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,  # tokens are kept as checksums only
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,  # refused, like the password grant
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
}
LOGIN_URL = "/accounts/login/"
# identity provider for logins to the page (OpenID Connect), as its discovery document names itself; empty: none
OIDC_ISSUER = secure_address("OIDC_ISSUER")
OIDC_CLIENT_ID = env.str("OIDC_CLIENT_ID", "")  # of this server there
OIDC_CLIENT_SECRET = env.str("OIDC_CLIENT_SECRET", "")  # needed with OIDC_ISSUER
OIDC_NAME = env.str("OIDC_NAME", "SSO")  # what the button says: log in with ...
SPECTACULAR_SETTINGS = {
    "TITLE": "ImageGenX",
    "DESCRIPTION": "Text and pictures in, pictures out. "
    "Errors have the form of `Error`; to `Accept: application/problem+json` they are answered as RFC 9457 says.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["generation.api.openapi_schema.complete"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# ---- Django --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")),
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "auditlog",
    "oauth2_provider",
    *("imagegenx_site", "generation", "workers", "postprocessing", "storage", "fixtures"),
]
MIDDLEWARE = [
    "imagegenx_site.http.forwarded.named_proxies_only",
    "imagegenx_site.metrics.timed_requests",
    "imagegenx_site.web.request_ids.request_ids",
    "imagegenx_site.http.answer_headers.answer_headers",
    "imagegenx_site.web.charsets.known_charsets",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "generation.admin.language.admin_language",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "generation.accounts.actor.audited_admin",
    "generation.admission.login.refused_logins",
    "generation.admin.base.without_nul",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if spans.ENABLED:  # OpenTelemetry's own variables (docs/operations.md, Traces)
    MIDDLEWARE.insert(0, "imagegenx_site.tracing.requests.traced_requests")
ROOT_URLCONF = "generation.urls"
ASGI_APPLICATION = "imagegenx_site.asgi.application"
AUTH_USER_MODEL = "generation.User"
AUTHENTICATION_BACKENDS = ["generation.admission.login.CountedBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}}
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATIC_ROOT = str(VAR_DIR / "static")
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # Strict would log out whoever follows a link to the admin
# a proxy in front speaks HTTPS: cookies become secure, and X-Forwarded-Proto of TRUSTED_PROXIES is believed
BEHIND_TLS = env.bool("BEHIND_TLS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
UNFOLD = {
    "SITE_TITLE": "ImageGenX",
    "SITE_HEADER": "ImageGenX",
    "SITE_SYMBOL": "image",  # of Material Symbols
    "SHOW_HISTORY": True,
    "LOGIN": {"form": "generation.admission.login_forms.AdminLoginForm"},
    "SIDEBAR": {"navigation": "generation.admin.navigation.navigation"},
}

# ---- Metrics --------------------------------------------------------------------------------------------------------
# port at which a process that is no web process answers GET /metrics, without a token; 0: none
METRICS_PORT = int(number("METRICS_PORT", 0, 0, 65535))
METRICS_TOKEN = env.str("METRICS_TOKEN", "")  # bearer token of GET /metrics; empty: only this machine may ask

# ---- Logs ----------------------------------------------------------------------------------------------------------
LOG_LEVEL = choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))  # least severe line that is written
LOG_FORMAT = choice("LOG_FORMAT", "json", ("json", "console"))  # one JSON object a line, or coloured text for people
LOGGING_CONFIG = None  # configured here, once, so that Celery and commands log the same way as the web process
log_lines.configure(LOG_LEVEL, LOG_FORMAT)
