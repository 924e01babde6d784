"""What the engine counts for Prometheus; generation/telemetry/prometheus.py has the whole list and the endpoint."""

from prometheus_client import Counter, Gauge, Histogram

STEP = Histogram(
    "imagegenx_step_seconds",
    "One shared denoising step.",
    ["model", "size"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BATCH = Histogram(
    "imagegenx_batch_samples",
    "Samples that shared a denoising step.",
    ["model"],
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64),
)
ROWS = Histogram(
    "imagegenx_batch_rows",
    "Rows of a denoising step: two for a sample with guidance.",
    ["model"],
    buckets=(1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128),
)
PREEMPTED = Counter("imagegenx_preemptions", "Samples under way that a step of others was put before.")
EMBEDDINGS = Counter("imagegenx_embeddings", "Look-ups of prompts in the embedding cache: hit or miss.", ["result"])
OUT_OF_MEMORY = Counter("imagegenx_out_of_memory", "Forward passes that did not fit into memory.", ["model"])
PAUSED = Gauge("imagegenx_paused_bytes", "Memory of paused samples.", multiprocess_mode="livesum")
MODEL_BYTES = Gauge("imagegenx_model_bytes", "Memory of a loaded model.", ["model"], multiprocess_mode="livesum")
PRECISION = Gauge(
    "imagegenx_model_precision",
    "Workers that have the model loaded in this precision.",
    ["model", "precision"],
    multiprocess_mode="livesum",
)
MODEL_LOADS = Counter("imagegenx_model_loads", "Models read into memory: loaded or failed.", ["model", "outcome"])
