"""The GPU worker: what Celery starts with

    celery -A imagegenx_site worker -I workers.gpu.main -P threads -c 32 -Q p0,p1,p2,p3,dq.gpu1 -n gpu1@%h -E

Its parts are in workers/gpu/worker.py; here its real engine is made.
"""

import logging
import sys
from pathlib import Path

from django.conf import settings

from imagegenx_site.celery import app
from workers.gpu.interfaces import EngineLike, PoolLike
from workers.gpu.worker import install

logger = logging.getLogger(__name__)
AUTO_PART = 0.6  # of what models may take: GPU_PRELOAD=auto begins no further one beyond it


def start_engine() -> tuple[PoolLike, EngineLike]:
    """Pool and engine of the settings, the models of GPU_PRELOAD loaded. Runs in the engine thread."""
    from workers.engine import Engine, EngineConfig, EngineError, ModelPool, ModelUnavailable, PoolConfig
    from workers.engine.batching.calibration import CalibrationTable, Calibrator
    from workers.engine.batching.scheduler import Policy
    from workers.engine.threads import decoder_threads, engine_threads
    from workers.gpu import model_health, preload
    from workers.gpu.samples import spec_of

    sys.setswitchinterval(0.001)  # the engine thread must not wait 5 ms whenever another thread computes
    budget = int(settings.GPU_MEMORY_GB * 2**30)
    pool = ModelPool(PoolConfig(settings.GPU_DEVICE, budget, settings.GPU_IDLE_UNLOAD_S))
    threads = settings.TORCH_THREADS or engine_threads(pool.device)
    decoders = settings.DECODER_THREADS if settings.DECODER_THREADS >= 0 else decoder_threads(pool.device)
    step_max_s = settings.STEP_MAX_MS / 1000
    table = CalibrationTable(Path(settings.CALIBRATION_FILE))
    calibrator = Calibrator(table, pool.device, step_max_s=step_max_s)
    policy = Policy(row_buckets=settings.GPU_ROW_BUCKETS)
    config = EngineConfig(
        threads=threads,
        decoders=decoders,
        step_max_s=step_max_s,
        batch_limits=settings.BATCH_LIMITS,
        paused_bytes=int(settings.GPU_PAUSED_GB * 2**30),
        policy=policy,
    )
    engine = Engine(pool, config, calibrator)
    for model in preload.wanted_models():
        try:
            pool.ensure(spec_of(model))
            pool.preload([model.key])
            model_health.note_loaded(model)
        except ModelUnavailable as error:
            model_health.note_failed(model, error)
        except EngineError as error:
            logger.error("model %s is not preloaded: %s", model.key, error)
        if preload.is_auto() and sum(pool.loaded().values()) > AUTO_PART * pool.budget:
            break
    return pool, engine


install(app, start_engine)
