"""The metrics of the product, for Prometheus.

Every process counts its own counters and histograms. With PROMETHEUS_MULTIPROC_DIR (the run script sets it:
VAR_DIR/run/metrics) all processes of a machine write them there and GET /metrics of the web process adds them up. In
containers each has a folder of its own, web processes answer GET /metrics and all others the same at METRICS_PORT.
Gauges of shared state (queues, tasks, spool, pools) are read by the web process at each scrape (system_gauges.py).

    imagegenx_http_seconds{method,route,status}      histogram
    imagegenx_task_seconds{model,size}               histogram: submitted to succeeded
    imagegenx_task_wait_seconds{class,outcome}       histogram: submitted to the first claim, or expired, cancelled,
                                                     failed without one
    imagegenx_tasks_submitted_total{model,kind,class,size}   counter: new tasks
    imagegenx_task_outcomes_total{model,kind,class,outcome,code}   counter: ends of tasks, with the code of the error
    imagegenx_task_requeues_total{code}              counter: moves back to the queue: retries, fallbacks, lost workers
    imagegenx_task_moves_total{to}                   counter: every move of a task (generation/tasks/states.py)
    imagegenx_stage_seconds{stage,outcome}           histogram: postprocess, upload, notify, enlarge; done or failed
    imagegenx_store_seconds{operation,outcome}       histogram: put, link: stored, spooled, failed (storage/metrics.py)
    imagegenx_cache_calls_total{cache,result}        counter: hits, misses, errors         (imagegenx_site/metrics.py)
    imagegenx_step_seconds{model,size}               histogram: a shared denoising step   (workers/engine/metrics.py)
    imagegenx_batch_samples{model}                   histogram: samples that shared it    (and so the next eight)
    imagegenx_batch_rows{model}                      histogram: rows of it, two for a sample with guidance
    imagegenx_preemptions_total                      counter: samples under way that a step was put before
    imagegenx_embeddings_total{result}               counter: prompts, hit or miss
    imagegenx_out_of_memory_total{model}             counter: passes that did not fit
    imagegenx_paused_bytes                           gauge: memory of paused samples
    imagegenx_model_bytes{model}                     gauge: memory of loaded models
    imagegenx_model_precision{model,precision}       gauge: workers that have it loaded so
    imagegenx_model_loads_total{model,outcome}       counter: loaded, failed
    imagegenx_pictures_total, imagegenx_picture_bytes_total   counters: of tasks that succeeded
    imagegenx_lora_uses_total{lora}                  counter: the most used LoRAs, from their rows
    imagegenx_webhook_seconds{answer}                histogram: attempts: 2xx to 5xx, none
    imagegenx_webhooks_ended_total{outcome}          counter: delivered, given_up
    imagegenx_webhooks_pending, imagegenx_webhook_endpoints_disabled   gauges: deliveries, endpoints
    imagegenx_tasks_returned_total                   counter: paused and requeued (workers/gpu/settlement.py)
    imagegenx_queue_messages{queue}                  gauge: Celery messages in Redis
    imagegenx_tasks_waiting{class}, imagegenx_tasks_open{status}    gauges: the buffer, the rows
    imagegenx_oldest_waiting_seconds{class}          gauge: age of the class's oldest waiting task, 0 without one
    imagegenx_pool_waiting{pool,class}               gauge: tasks that wait for a pool of GPU workers
    imagegenx_pool_oldest_waiting_seconds{pool,class}   gauge: age of the oldest of them
    imagegenx_model_waiting{model,class}             gauge: waiting tasks by model
    imagegenx_workers{pool,state}                    gauge: members of a pool that are live, and wanted
    imagegenx_alerts_open                            gauge: alerts that nobody and nothing has cleared
    imagegenx_spool_files, _bytes, _oldest_seconds, _full           gauges: of the machine's spool
    imagegenx_store_down                             gauge: 1 while pictures are spooled instead of stored
    imagegenx_results_total{result}                  counter: pictures answered from earlier runs
    imagegenx_disk_bytes{place}, imagegenx_disk_free_bytes{place}   gauges: file systems of data, media, raw, spool
    imagegenx_database_bytes, imagegenx_redis_bytes  gauges: of the database on disk, of Redis in memory
    imagegenx_build_info{version,commit,python}      gauge: 1
    imagegenx_scrape_failures{source}                gauge: 1 where a source did not answer
"""

import prometheus_client as prometheus
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from generation.telemetry import insiders
from generation.telemetry.system_gauges import SystemCollector
from imagegenx_site import metrics_files


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics, for METRICS_TOKEN as a bearer token; without one for this machine only, and not through a proxy."""
    if not insiders.may_see(request):
        return HttpResponse("Set METRICS_TOKEN and send it as a bearer token.\n", "text/plain", 403)
    read = prometheus.CollectorRegistry()
    read.register(SystemCollector())
    text = prometheus.generate_latest(metrics_files.registry()) + prometheus.generate_latest(read)
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")
