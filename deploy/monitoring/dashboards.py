"""The seven dashboards: what each panel asks. grafana.py writes them down."""

from typing import Final

from deploy.monitoring.panels import Dashboard, Panel, Query, mean, part, quantile, rate, shared

_OUTCOMES: Final = "imagegenx_task_outcomes_total"
_FAILED: Final = f'{_OUTCOMES}{{outcome="failed"}}'
_WAIT: Final = "imagegenx_task_wait_seconds"
_LORA_RATE: Final = "sum(max by (lora) (rate(imagegenx_lora_uses_total[15m])))"
_SUCCESS_RATE: Final = f'sum(rate({_OUTCOMES}{{outcome="succeeded"}}[15m]))'
_STEP: Final = "imagegenx_step_seconds"

OVERVIEW: Final = Dashboard(
    "imagegenx-overview",
    "ImageGenX: overview",
    "Is it well? Begin here.",
    (
        Panel("Pictures a minute", (Query("60 * sum(rate(imagegenx_pictures_total[5m]))"),), kind="stat", width=4),
        Panel("Tasks waiting", (Query("sum(max by (class) (imagegenx_tasks_waiting))"),), kind="stat", width=4),
        Panel("Oldest waiting", (Query("max(imagegenx_oldest_waiting_seconds)"),), "s", "stat", 4),
        Panel(
            "GPU workers alive",
            (Query('sum(max by (pool) (imagegenx_workers{pool=~"gpu-worker.*", state="live"}))'),),
            kind="stat",
            width=4,
        ),
        Panel("Open alerts of lost processes", (shared("imagegenx_alerts_open"),), kind="stat", width=4),
        Panel(
            "Servers that do not answer",
            (Query("sum(max by (source) (imagegenx_scrape_failures))"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "New tasks and ends",
            (rate("imagegenx_tasks_submitted_total", legend="new"), rate(_OUTCOMES, "outcome")),
            "reqps",
        ),
        Panel("Failed tasks", (rate(_FAILED, "code", rare=True), part(_FAILED, _OUTCOMES)), "percentunit"),
        Panel(
            "Submitted to succeeded",
            (quantile(0.5, "imagegenx_task_seconds"), quantile(0.95, "imagegenx_task_seconds")),
            "s",
        ),
        Panel("Waited for a GPU", (quantile(0.95, _WAIT, "class"),), "s"),
        Panel("Requests", (rate("imagegenx_http_seconds_count", "status"),), "reqps"),
        Panel(
            "Answer times",
            (quantile(0.5, "imagegenx_http_seconds"), quantile(0.95, "imagegenx_http_seconds")),
            "s",
        ),
        Panel(
            "Processes: live and wanted",
            (
                shared('imagegenx_workers{state="live"}', "pool", "{{pool}} live"),
                shared('imagegenx_workers{state="wanted"}', "pool", "{{pool}} wanted"),
            ),
        ),
        Panel("What runs", (Query("imagegenx_build_info", "{{version}} {{commit}} Python {{python}}"),), kind="stat"),
    ),
)
RESOLUTION: Final = Dashboard(
    "imagegenx-resolution",
    "ImageGenX: resolution",
    "Sizes are the longer side in steps of 256 pixels.",
    (
        Panel("New tasks by size", (rate("imagegenx_tasks_submitted_total", "size"),), "reqps"),
        Panel("Succeeded by size", (rate("imagegenx_task_seconds_count", "size"),), "reqps"),
        Panel("Submitted to succeeded, median", (quantile(0.5, "imagegenx_task_seconds", "size"),), "s"),
        Panel("Submitted to succeeded, p95", (quantile(0.95, "imagegenx_task_seconds", "size"),), "s"),
        Panel("A shared step, median", (quantile(0.5, _STEP, "size"),), "s"),
        Panel("A shared step, p95", (quantile(0.95, _STEP, "size"),), "s"),
        Panel("Steps a second", (rate(f"{_STEP}_count", "size"),), "ops"),
        Panel("Time in steps", (rate(f"{_STEP}_sum", "size"),), "percentunit", about="1: one worker is always at it."),
    ),
)
MODELS: Final = Dashboard(
    "imagegenx-models",
    "ImageGenX: models compared",
    "One line a model, at one revision of its weights.",
    (
        Panel("New tasks", (rate("imagegenx_tasks_submitted_total", "model"),), "reqps"),
        Panel("Succeeded part", (part(f'{_OUTCOMES}{{outcome="succeeded"}}', _OUTCOMES, "model"),), "percentunit"),
        Panel("Failures by cause", (rate(_FAILED, "model, code", rare=True),), "reqps"),
        Panel("Submitted to succeeded, p95", (quantile(0.95, "imagegenx_task_seconds", "model"),), "s"),
        Panel("A shared step", (quantile(0.5, _STEP, "model"), quantile(0.95, _STEP, "model")), "s"),
        Panel("Samples in a step", (mean("imagegenx_batch_samples", "model"),), about="The mean batch."),
        Panel(
            "Rows in a step", (mean("imagegenx_batch_rows", "model"), quantile(0.95, "imagegenx_batch_rows", "model"))
        ),
        Panel("Tasks by kind", (rate("imagegenx_tasks_submitted_total", "kind"),), "reqps"),
        Panel(
            "Precision in use (workers)",
            (Query("sum by (model, precision) (imagegenx_model_precision)", "{{model}} {{precision}}"),),
        ),
        Panel(
            "Fallbacks and other returns to the queue",
            (rate("imagegenx_task_requeues_total", "code"),),
            "reqps",
            about="fell_back: another model stands in for one that failed.",
        ),
    ),
)
LORAS: Final = Dashboard(
    "imagegenx-loras",
    "ImageGenX: LoRA use",
    "The most used LoRAs, from their rows.",
    (
        Panel(
            "Uses, all time",
            (Query("topk(20, max by (lora) (imagegenx_lora_uses_total))", "{{lora}}"),),
            kind="bargauge",
        ),
        Panel(
            "Uses in the last day",
            (Query("topk(20, max by (lora) (increase(imagegenx_lora_uses_total[1d])))", "{{lora}}"),),
            kind="bargauge",
        ),
        Panel(
            "Uses a second",
            (Query("max by (lora) (rate(imagegenx_lora_uses_total[$__rate_interval]))", "{{lora}}"),),
            "reqps",
        ),
        Panel(
            "Part of the tasks that use one",
            (Query(f"{_LORA_RATE} / {_SUCCESS_RATE}"),),
            "percentunit",
        ),
    ),
)
GPU: Final = Dashboard(
    "imagegenx-gpu",
    "ImageGenX: GPU workers",
    "What the engine does with its devices. Utilisation and temperature come from DCGM's exporter where it runs.",
    (
        Panel("Time in steps", (rate(f"{_STEP}_sum", "model"),), "percentunit", about="1: one worker is always at it."),
        Panel("Steps a second", (rate(f"{_STEP}_count", "model"),), "ops"),
        Panel("Samples in a step", (mean("imagegenx_batch_samples"), quantile(0.95, "imagegenx_batch_samples"))),
        Panel("Memory of models", (Query("sum by (model) (imagegenx_model_bytes)", "{{model}}"),), "bytes"),
        Panel("Memory of paused work", (Query("sum(imagegenx_paused_bytes)"),), "bytes"),
        Panel(
            "Preemptions and returns",
            (
                rate("imagegenx_preemptions_total", legend="put after others"),
                rate("imagegenx_tasks_returned_total", legend="returned"),
            ),
            "ops",
        ),
        Panel("Passes that did not fit", (rate("imagegenx_out_of_memory_total", "model"),), "ops"),
        Panel("Models loaded", (rate("imagegenx_model_loads_total", "model, outcome"),), "ops"),
        Panel(
            "Prompts found encoded",
            (part('imagegenx_embeddings_total{result="hit"}', "imagegenx_embeddings_total"),),
            "percentunit",
        ),
        Panel("Devices: utilisation", (Query("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}", rare=True),), "percent"),
        Panel("Devices: memory", (Query("DCGM_FI_DEV_FB_USED * 1048576", "{{Hostname}} {{gpu}}", rare=True),), "bytes"),
        Panel("Devices: temperature", (Query("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}", rare=True),), "celsius"),
        Panel("Devices: Xid errors", (Query("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}", rare=True),)),
    ),
)
STORAGE: Final = Dashboard(
    "imagegenx-storage",
    "ImageGenX: after the GPU and storage",
    "Post-processing, the store, its spool, disks, webhooks.",
    (
        Panel("Stages, p95", (quantile(0.95, "imagegenx_stage_seconds", "stage"),), "s"),
        Panel(
            "Stages that fail",
            (part('imagegenx_stage_seconds_count{outcome="failed"}', "imagegenx_stage_seconds_count", "stage"),),
            "percentunit",
        ),
        Panel(
            "Messages after the GPU",
            (shared('imagegenx_queue_messages{queue=~"(cpu|io|enlarge|webhooks).*"}', "queue"),),
        ),
        Panel("Into the store", (rate("imagegenx_store_seconds_count", "operation, outcome"),), "ops"),
        Panel("A picture into the store, p95", (quantile(0.95, "imagegenx_store_seconds"),), "s"),
        Panel("Bytes of finished pictures", (rate("imagegenx_picture_bytes_total"),), "Bps"),
        Panel(
            "Spool",
            (
                shared("imagegenx_spool_files", legend="pictures"),
                shared("imagegenx_spool_oldest_seconds", legend="age of the first"),
            ),
        ),
        Panel(
            "Spool filled",
            (shared("imagegenx_spool_full"), shared("imagegenx_store_down", legend="store down")),
            "percentunit",
        ),
        Panel(
            "Disks: free",
            (Query("min by (place) (imagegenx_disk_free_bytes / imagegenx_disk_bytes)", "{{place}}"),),
            "percentunit",
        ),
        Panel(
            "Database and Redis",
            (shared("imagegenx_database_bytes", legend="Postgres"), shared("imagegenx_redis_bytes", legend="Redis")),
            "bytes",
        ),
        Panel("Results answered again", (rate("imagegenx_results_total", "result"),), "ops"),
        Panel(
            "Caches: hits",
            (part('imagegenx_cache_calls_total{result="hits"}', "imagegenx_cache_calls_total", "cache"),),
            "percentunit",
        ),
        Panel("Webhook attempts", (rate("imagegenx_webhook_seconds_count", "answer"),), "ops"),
        Panel(
            "Webhooks pending",
            (
                shared("imagegenx_webhooks_pending"),
                shared("imagegenx_webhook_endpoints_disabled", legend="endpoints off"),
            ),
        ),
    ),
)
QUEUE: Final = Dashboard(
    "imagegenx-queue",
    "ImageGenX: queue",
    "Who waits, for what, how long.",
    (
        Panel("Waiting by class", (shared("imagegenx_tasks_waiting", "class"),)),
        Panel(
            "Waiting by model",
            (Query("sum by (model) (max by (model, class) (imagegenx_model_waiting))", "{{model}}", rare=True),),
        ),
        Panel("Waiting by pool", (shared("imagegenx_pool_waiting", "pool, class"),)),
        Panel("Oldest by pool", (shared("imagegenx_pool_oldest_waiting_seconds", "pool, class"),), "s"),
        Panel("Waited, median", (quantile(0.5, _WAIT, "class"),), "s"),
        Panel("Waited, p95", (quantile(0.95, _WAIT, "class"),), "s"),
        Panel("Ends of the wait", (rate(f"{_WAIT}_count", "outcome"),), "ops"),
        Panel("Open tasks by state", (shared("imagegenx_tasks_open", "status"),)),
        Panel("Celery messages", (shared("imagegenx_queue_messages", "queue"),)),
        Panel("Back to the queue", (rate("imagegenx_task_requeues_total", "code"),), "ops"),
    ),
)
ALL: Final = (OVERVIEW, RESOLUTION, MODELS, LORAS, GPU, STORAGE, QUEUE)
