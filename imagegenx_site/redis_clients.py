"""The Redis clients of a process, how Lua scripts are loaded, and every key that the product writes.

Calls are bounded in time, except those of `stream_reader`. A client with `Retry(..., 1)` repeats a call after a cut
connection or a time-out; the others never do. Everything in Redis can be lost at any moment: it is an index and a
messenger, rebuilt from Postgres. One instance, no cluster: the queue's scripts touch keys that they compute. `{id}` and
`{task}` are dashed UUIDs, `{class}` is 0 to 3.

    key                         type    content                                                      lifetime
    [generation/queue]
    gq:t:{id}                   hash    the task as the queue knows it (below)                       15 min once over
    gq:w:{class}:{batch key}    zset    waiting ids of one batch key, by tag                         while any waits
    gq:k:{class}                zset    batch keys by the tag of their first task                    while any waits
    gq:f:{class}                hash    user -> tag where its asked work ends                        while any waits
    gq:v                        hash    class -> virtual time of its users                           for ever
    gq:pass                     hash    class -> stride pass (work served / share); vt: virtual time for ever
                                        of the classes
    gq:n                        hash    class -> waiting tasks                                       for ever
    gq:work                     hash    class -> sum of their weights                                for ever
    gq:tickets                  hash    class -> number of its last ticket (below)                   for ever
    gq:run:{worker}             set     ids that a worker holds                                      while held
    gq:lease                    zset    worker -> end of its lease (ms)                              while it lives
    gq:lastbeat                 string  ms of the last lease renewal by anybody                      for ever
    gq:grace                    string  ms when an outage of Redis ended: other workers' tasks are   10 s
                                        not requeued for 2 s
    gq:resend_tickets           list    JSON {id, worker, cause}: requeued after a crash, tickets    until read
                                        must be sent
    gq:given_up                 list    the same for tasks given up, to be failed                    until read
    gq:lost_workers             list    JSON {worker, cause, at}: workers whose tasks were requeued, until read
                                        alerts follow
    gq:to_cancel                list    ids to cancel                                                until read
    gq:revoked                  set     ids whose ticket was revoked through Celery, to cancel       until read
    [imagegenx_site/pools.py]
    proc:pool                   hash    process -> its pool                                          while it lives
    proc:pools                  set     names of pools                                               for ever
    proc:lease                  zset    process that is no GPU worker -> end of its lease (ms)       while it lives
    proc:new:{pool}             zset    member that took nobody's place -> ms of its arrival         an hour
    proc:lost:{pool}            list    lost members whose place is open                             until taken
    [workers/recovery]
    gq:epoch                    string  Unix time of the last rebuild of the queue; absent: Redis    for ever
                                        was emptied
    [generation/queue/model_memory.py]
    gq:models:{worker}          string  JSON: node, device, bytes and precision of models in memory      30 s
    [workers/simulation/run.py]
    gq:clock                    string  simulated ms, in a simulation's own database                 its run
    [generation/tasks/estimates.py]
    gq:speed                    hash    measured seconds (below)                                     for ever
    [generation/tasks/events.py]
    gq:ev                       stream  {task, kind: status, progress, preview, enlarging or         the last 20,000
                                        updated, data: JSON}
    [generation/tasks/results.py]
    gq:res:{identity}           string  JSON: object (key in the raw store), warnings                RESULT_CACHE_HOURS
    gq:res:of:{task}            set     identities of the pictures that it has                       RESULT_CACHE_HOURS
    gq:res:count                hash    hits and misses, for the metrics                             for ever
    [generation/admission/rates.py]
    rl:ip:{address}             counter requests of an address in a window                           RATE_WINDOW_S
    rl:key:{key id}             counter requests of an API key in a window                           RATE_WINDOW_S
    [generation/admission/failures.py]
    rl:fail:{door}:{account}:{address}
                                hash    n: failed attempts; next: ms before which there is no        15 min after
                                        other. Without account or address: of all of them            the last
    rl:known:{door}:{account}:{address}
                                string  the account came in from this address                        30 days
    [generation/admission/quotas.py]
    rl:open:{user}              zset    open tasks: id -> ms when admitted                           25 h
    rl:day:{user}:{date}        hash    images, work (thousandths of megapixel-steps) asked for on   25 h
                                        that day
    rl:seen:{user}              string  set while rl:open was compared with Postgres a moment ago    250 ms
    [generation/accounts/signatures.py]
    rl:nonce:{key id}:{nonce}   string  a signed request was received                                10 min
    [imagegenx_site/cache.py]
    gx:cache:{name}:v:{key}     string  a sign and the value: "+" a value, "-" known to be none,     of the cache
                                        "~" blocked
    gx:cache:{name}:l:{key}     string  token of the one loader                                      10 s
    gx:cache:{name}:due         zset    key -> when it expires (ms), bounded caches                  for ever
    gx:cache:{name}:size        hash    key -> bytes; "": their sum, bounded caches                  for ever
    [imagegenx_site/single_flight.py]
    gx:once:{name}              string  token of the one caller that does a work                     the work's limit
    [storage/openings.py]
    gx:opened                   zset    key of an original -> day number of its last opening (days   ARCHIVE_AFTER_DAYS
                                        since 1970)
    [storage/archive.py]
    gx:archive:asked            zset    key -> when housekeeping looks at it next (s)                until it is back
    gx:archive:restored         hash    key -> when its store should have it readable                until it is back
    [generation/webhooks/turns.py]
    gx:webhook:user:{user id}   zset    slot of an attempt that is under way -> its end (ms)         its end
    gx:webhook:host:{host}      zset    the same, of all users at one host                           its end
    [generation/webhooks/messages.py]
    gx:webhook:waiting:{delivery id} string  "1": a message for it is in the queue                   1 min
    [generation/tasks/previews/exchange.py]
    gx:preview:asked:{id}       string  JSON: what to do, a line feed, the picture                   1 min
    gx:preview:made:{id}        string  JSON: a fault or none, a line feed, the picture              1 min
    [generation/compat/base.py]
    gx:compat:{key id}:{digest} string  id of the task that a request's body made                    15 min
    [generation/compat/a1111/choice.py]
    gx:sdapi:{key id}           string  title of the model that the key has chosen                   30 days
    [generation/compat/horde/jobs.py]
    gx:horde:{id}               string  JSON: task, key and form of a request of the AI Horde's API  1 day
    [generation/compat/comfyui/]
    gx:comfy:prompt:{task id}   string  JSON: graph, nodes that save, client id of a prompt              1 day
    gx:comfy:key:{key id}       list    task ids of the newest 100 prompts of a key                      1 day
    gx:comfy:user:{user id}     list    the same of the newest 500 prompts of a user                         1 day
    gx:comfy:uploads:{user id}  hash    name of an uploaded picture -> JSON: object key, time; 20        1 day

Celery's own: the lists p0 to p3, cpu.p0 and so on (imagegenx_site/celery.py) and dq.{worker} hold messages, `unacked*`
what was delivered and not yet acknowledged, `_kombu.*` bindings. Worker names in gq:run and gq:lease are
unique for each start ("gpu1-" and 32 digits); the queue dq.gpu1 survives a restart.

Fields of gq:t:{id}: st state (w waiting, r running, x ended), cls class, key batch key, usr user, wt weight, sc created
ms, exp expires ms (0 never), mdl model, n samples, tag place in the order, own worker, at fence (each claim adds
1), cx cancel asked, cr crashes, iso runs alone, tk number of its ticket in p{class} (layout.lua), dq queue of the
tickets of its worker, tq its ticket was sent there. Fields of gq:speed: full (s per megapixel-step of a worker while
others wait), after (s from the GPU to the end), after:{class}, {batch key} (s per step of a running task).
"""

from functools import cache
from pathlib import Path
from typing import Final

import redis.asyncio
from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

CACHE_TIMEOUT_S: Final = 1.0  # a cache that is slower than this is no help


@cache
def text_client() -> "Redis[str]":
    """For short commands, with text answers: limits, events, results, measurements."""
    timeout = settings.REDIS_TIMEOUT_S
    return Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),  # redis-py's own retries take seconds
    )


@cache
def bytes_client() -> Redis:
    """For submitting, with answers in bytes; never repeats a call."""
    timeout = settings.REDIS_TIMEOUT_S
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
    )


@cache
def cache_client() -> Redis:
    """For caches, with answers in bytes; fails fast."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=CACHE_TIMEOUT_S,
        socket_connect_timeout=CACHE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )


def connect(url: str, timeout: float) -> Redis:
    """A client of the caller's own, with text answers: every call gives up after `timeout` seconds and is never
    repeated, because a claim whose first reply was lost would claim twice.
    """
    return Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


def stream_reader() -> "redis.asyncio.Redis[str]":
    """For one reader of a stream in an event loop: it waits for as long as its command says."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, decode_responses=True, socket_timeout=None)


def load_script(client: Redis, *parts: Path | str) -> Script:
    """The Lua script of these files and texts, one after another, callable with `keys=[...], args=[...]`.

    It is sent by its hash, and once more whole when the server does not know it.
    """
    return client.register_script("".join(part.read_text() if isinstance(part, Path) else part for part in parts))
