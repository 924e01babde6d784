"""The command line of each process, in one place for the run script, containers and Kubernetes.

    python -m deploy.commands web

replaces itself by that process. It reads the environment of the product (imagegenx_site/settings.py), and HOST, PORT,
WEB_WORKERS, FLOWER_HOST, FLOWER_PORT, and WORKER_NAME, which must be unique among the workers of one kind: a pod's or
container's name. Without it that is the name of the host, which is a container's own.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.private_files import DATA_FOLDERS, make_private
from generation.queue.classes import queues_of

WORKERS = ("gpu-worker", "cpu-worker", "enlarge-worker", "io-worker", "webhook-worker")
PROCESSES = ("web", *WORKERS, "reconciler", "beat", "backup", "flower")
CELERY = ["celery", "--quiet", "-A", "imagegenx_site"]  # quiet: no banner that is no JSON
GPU_MODULE = "workers.gpu.main"  # a benchmark puts another engine in its place
SCHEDULE = ["-S", "workers.housekeeping.schedule:BeatScheduler"]
# glibc gives each large tensor back to the kernel and fetches it again at the next step, in threads even where its
# thresholds are high. One arena that keeps up to 1 GiB of freed memory: a quarter less CPU for a picture on a CPU.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
# Two threads of a forward pass wait for each other in a busy loop by default. On cores that the product's other
# processes use, too, that doubles to triples the CPU of a pass (64 instead of 21 ms a row of the UNet at a load of 8).
ENGINE_ENVIRONMENT = ALLOCATOR | {"OMP_WAIT_POLICY": "PASSIVE"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# -E: events for Flower; a sign of life each 10 s is enough for it
QUIET = ["--without-gossip", "--without-mingle", "-E", "--heartbeat-interval=10", "--loglevel=INFO"]


@dataclass(frozen=True)
class CommandConfig:
    host: str = "127.0.0.1"
    port: int = 8000
    web_workers: int = 1
    flower_host: str = "127.0.0.1"
    flower_port: int = 5555
    worker: str = ""  # its name in queues and in Flower; empty: gpu1, cpu1 ...
    beat_schedule: Path = Path("beat-schedule")

    @classmethod
    def from_environment(cls) -> CommandConfig:
        """For a process that is started alone, in a container for example."""
        env = os.environ
        return cls(
            host=env.get("HOST", cls.host),
            port=int(env.get("PORT", cls.port)),
            web_workers=int(env.get("WEB_WORKERS", cls.web_workers)),
            flower_host=env.get("FLOWER_HOST", cls.flower_host),
            flower_port=int(env.get("FLOWER_PORT", cls.flower_port)),
            worker=env.get("WORKER_NAME") or socket.gethostname()[:63],
            beat_schedule=Path(env.get("VAR_DIR", "var")) / "run" / "beat-schedule",
        )


def command(name: str, config: CommandConfig) -> list[str]:
    """The arguments after `python -m` for the process `name`. Raises KeyError for an unknown one."""
    gpu, cpu, enlarge, io, webhook = (config.worker or f"{name.removesuffix('-worker')}1" for name in WORKERS)
    gpu_queues = f"p0,p1,p2,p3,dq.{gpu}"  # dq.NAME: the tickets of the tasks that this worker runs
    enlarging = "workers.stages.enlargement_worker"
    housekeeping = "workers.stages,workers.housekeeping.schedule"
    lines = {
        "web": _web(config),
        "gpu-worker": _worker(gpu, GPU_MODULE, gpu_queues, pool="threads", concurrency=32),
        "cpu-worker": _worker(cpu, "workers.stages", _classes("cpu"), pool="prefork", concurrency=1),
        "enlarge-worker": _worker(enlarge, enlarging, _classes("enlarge"), pool="prefork", concurrency=1),
        "io-worker": _worker(io, housekeeping, _classes("io"), pool="threads", concurrency=8),
        "webhook-worker": _worker(webhook, "workers.webhooks", _classes("webhooks"), pool="threads", concurrency=16),
        "reconciler": ["workers.recovery.reconciler"],
        "beat": [*CELERY, "beat", *SCHEDULE, "--schedule", str(config.beat_schedule), "--pidfile=", "--loglevel=INFO"],
        "backup": ["deploy.wal_backups", "keep"],
        "flower": [
            "deploy.flower",
            *CELERY[1:],
            "flower",
            f"--address={config.flower_host}",
            f"--port={config.flower_port}",
            "--inspect_timeout=3000",  # ms; a worker that loads a model answers slowly
        ],
    }
    return lines[name]


def process_environment(name: str) -> dict[str, str]:
    """Variables that a process must have from its first line on; the user's own take precedence."""
    defaults = ENGINE_ENVIRONMENT if name == "gpu-worker" else {}
    return {"PROCESS_NAME": name} | {key: value for key, value in defaults.items() if key not in os.environ}


def _web(config: CommandConfig) -> list[str]:
    address = ["--host", config.host, "--port", str(config.port)]
    workers = ["--workers", str(config.web_workers)] if config.web_workers > 1 else []
    # uvicorn would believe the forwarded headers of everybody on this machine (imagegenx_site/http/forwarded.py)
    options = ["--no-proxy-headers", "--no-access-log", "--timeout-graceful-shutdown", "5"]
    return ["imagegenx_site.web_server", "imagegenx_site.asgi:application", *address, *options, *workers]


def _worker(name: str, modules: str, queues: str, *, pool: str, concurrency: int) -> list[str]:
    size = ["-P", pool, "-c", str(concurrency)]
    return [*CELERY, "worker", "-I", modules, *size, "-Q", queues, "-n", f"{name}@%h", *QUIET]


def _classes(work: str) -> str:
    """The queues of all classes, for -Q."""
    return ",".join(queues_of(work))


def _forget_earlier_start(name: str) -> None:
    """A container that starts again finds the files of its killed predecessor, whose process id was the same: 1."""
    run = Path(os.environ.get("VAR_DIR", "var")).resolve() / "run"
    for suffix in ("ready", "alive"):
        (run / f"{name}.{suffix}").unlink(missing_ok=True)


def _prepare_metrics(name: str, worker: str) -> None:
    """A folder for the counters of this process and its children, without those of an earlier start; Flower has series
    of its own that belong to nobody else's page.
    """
    if name == "flower":
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    elif not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        folder = Path(os.environ.get("VAR_DIR", "var")).resolve() / "run" / f"metrics-{name}-{worker}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def main() -> None:
    """Entry point of `python -m deploy.commands NAME`."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in PROCESSES:
        sys.exit(f"error: name one process: {', '.join(PROCESSES)}")
    config = CommandConfig.from_environment()
    if name == "flower" and config.flower_host not in LOOPBACK and not os.environ.get("FLOWER_BASIC_AUTH"):
        sys.exit("error: Flower can stop workers: set FLOWER_BASIC_AUTH=user:password, or FLOWER_HOST=127.0.0.1")
    os.umask(0o077)
    make_private([Path(os.environ[place]) for place in DATA_FOLDERS if os.environ.get(place)])
    config.beat_schedule.parent.mkdir(parents=True, exist_ok=True)
    os.environ["WORKER_NAME"] = config.worker
    _forget_earlier_start(name)
    _prepare_metrics(name, config.worker)
    os.environ.update(process_environment(name) | {"PROCESS_NAME": os.environ.get("PROCESS_NAME", name)})
    os.execv(sys.executable, [sys.executable, "-m", *command(name, config)])


if __name__ == "__main__":
    main()
