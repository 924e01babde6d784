"""The Kubernetes manifests of the processes, from one table: `python -m deploy.manifests` writes

    deploy/kubernetes/base/web.yaml, workers.yaml, singles.yaml

A new process is a row of TABLE here and a command in deploy/commands.py; a test compares the files with the table.
"""

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

BASE: Final = Path(__file__).resolve().parent / "kubernetes" / "base"
METRICS_PORT: Final = 9100  # of the Dockerfile


@dataclass(frozen=True)
class Deployment:
    """`resources`: (cpu asked for, memory asked for, most memory). `grace`: s from SIGTERM to SIGKILL, more than the
    process needs to stop in order.
    """

    name: str
    file: str
    about: str
    replicas: int
    grace: int
    resources: tuple[str, str, str]
    strategy: str = ""


_ONE_BY_ONE: Final = "type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}"
TABLE: Final = (
    Deployment(
        "web",
        "web",
        "API, admin, pictures, event streams. Put an ingress with TLS in front and set BEHIND_TLS=1.",
        2,
        30,
        ("500m", "512Mi", "1Gi"),
    ),
    Deployment(
        "gpu-worker",
        "workers",
        "GPU workers: each pod owns a device and a queue of its own, named after the pod. The overlay gpu/ asks for\n"
        "# the device. A new pod starts only after an old one has gone, because a device can't be shared. A pool for\n"
        "# other models is a copy with another name and GPU_MODELS.",
        1,
        40,
        ('"2"', "4Gi", "16Gi"),
        _ONE_BY_ONE,
    ),
    Deployment("cpu-worker", "workers", "Post-processing.", 2, 30, ('"1"', "1Gi", "4Gi")),
    Deployment("enlarge-worker", "workers", "Enlargements after delivery.", 1, 30, ('"1"', "1Gi", "4Gi")),
    Deployment("io-worker", "workers", "Uploads, scheduled maintenance.", 2, 30, ("250m", "512Mi", "1Gi")),
    Deployment(
        "webhook-worker",
        "workers",
        "Webhooks: apart from everything else, because their receivers may never answer.",
        2,
        30,
        ("250m", "512Mi", "1Gi"),
    ),
    Deployment(
        "reconciler",
        "singles",
        "Two reconcilers, one of them active by a lease in Postgres.",
        2,
        20,
        ("100m", "256Mi", "512Mi"),
    ),
    Deployment(
        "beat",
        "singles",
        "Beat must never run twice, so it is recreated, not rolled.",
        1,
        20,
        ("50m", "256Mi", "512Mi"),
        "type: Recreate",
    ),
)
_POD: Final = Template(
    """\
# $about
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $name
  labels: {app: imagegenx, process: $name}
spec:
  replicas: $replicas
$strategy\
  selector:
    matchLabels: {app: imagegenx, process: $name}
  template:
    metadata:
      labels: {app: imagegenx, process: $name}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: $grace
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: $name
          image: imagegenx
          args: [$name]
          envFrom:
            - configMapRef: {name: imagegenx}
            - secretRef: {name: imagegenx}
          env:
            - name: WORKER_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
          ports:
            - $port
          startupProbe:
            $ready
            periodSeconds: 3
            failureThreshold: 200
          readinessProbe:
            $ready
            periodSeconds: 5
          livenessProbe:
            $alive
            periodSeconds: 20
            timeoutSeconds: 10
            failureThreshold: 3
          resources:
            requests: {cpu: $cpu, memory: $memory}
            limits: {memory: $most}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: data, mountPath: /data}
            - {name: run, mountPath: /run/imagegenx}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: imagegenx-data}
        - name: run
          emptyDir: {medium: Memory, sizeLimit: 64Mi}
        - name: tmp
          emptyDir: {sizeLimit: 4Gi}
"""
)
_WEB_EXTRAS: Final = """\
---
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {app: imagegenx, process: web}
spec:
  selector: {app: imagegenx, process: web}
  ports:
    - {name: http, port: 80, targetPort: http}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: web
spec:
  minAvailable: 1
  selector:
    matchLabels: {app: imagegenx, process: web}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: web
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 20
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}
"""


def rendered() -> dict[str, str]:
    """The text of each file."""
    files: dict[str, list[str]] = {}
    for row in TABLE:
        files.setdefault(row.file, []).append(_pod(row))
    texts = {f"{name}.yaml": "---\n".join(pods) for name, pods in files.items()}
    texts["web.yaml"] += _WEB_EXTRAS
    return texts


def _pod(row: Deployment) -> str:
    cpu, memory, most = row.resources
    web = row.name == "web"
    started = f"""exec: {{command: [sh, -c, 'kill -0 "$(cat /run/imagegenx/run/{row.name}.ready)"']}}"""
    hung = f"exec: {{command: [python, -m, deploy.health, {row.name}]}}"
    return _POD.substitute(
        about=row.about,
        name=row.name,
        replicas=row.replicas,
        strategy=f"  strategy: {{{row.strategy}}}\n" if row.strategy else "",
        grace=row.grace,
        port="{name: http, containerPort: 8000}" if web else f"{{name: metrics, containerPort: {METRICS_PORT}}}",
        ready="httpGet: {path: /readyz, port: http}" if web else started,
        alive="httpGet: {path: /healthz, port: http}" if web else hung,
        cpu=cpu,
        memory=memory,
        most=most,
    )


def main() -> None:
    """Entry point of `python -m deploy.manifests`."""
    for name, text in rendered().items():
        (BASE / name).write_text(text)


if __name__ == "__main__":
    main()
