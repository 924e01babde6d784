-- What every script of the buffer shares. Keys: see imagegenx_site/redis_clients.py.
-- Tags are doubles: always written with 17 digits, because tostring() keeps 14.

local WAITING, RUNNING, ENDED = 'w', 'r', 'x'  -- of an entry; EntryState in generation/queue/values.py
local TERMINAL_SECONDS = 900  -- an ended task is remembered so long, so that a late ticket finds out
local TICKET_CHUNK = 32       -- messages read at once

-- A list as a set; nil stays nil.
local function as_set(list)
  if not list then return nil end
  local set = {}
  for _, item in ipairs(list) do set[item] = true end
  return set
end

local function task_key(id) return 'gq:t:' .. id end
local function waiting_key(class, batch_key) return 'gq:w:' .. class .. ':' .. batch_key end
local function heads_key(class) return 'gq:k:' .. class end
local function users_key(class) return 'gq:f:' .. class end
local function running_key(worker) return 'gq:run:' .. worker end

-- What a batch key's text says: see generation/queue/values.py, whose parser this one equals. `alone` is '' or the task it belongs to.
local function parse_batch_key(text)
  local shared, alone = string.match(text, '^([^#]*)#?(.*)$')
  local model = string.match(shared, '^(.*):[^:]*$')
  return {model = model, name = string.match(model, '^(.-)@') or model, alone = alone}
end

-- The key of a task that runs alone.
local function alone_key(text, id) return text .. '#' .. id end

local function exact(number) return string.format('%.17g', number) end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function count(class) return tonumber(redis.call('HGET', 'gq:n', class) or 0) end

-- Is a worker's lease still good?
local function alive(worker, now)
  local lease = redis.call('ZSCORE', 'gq:lease', worker)
  return lease and tonumber(lease) > now
end

local function charge(hash, field, amount)
  redis.call('HINCRBYFLOAT', hash, field, exact(amount))
end

-- The batch key's place among the keys of its class is the tag of its first task.
local function refresh_head(class, batch_key)
  local head = redis.call('ZRANGE', waiting_key(class, batch_key), 0, 0, 'WITHSCORES')
  if #head == 0 then
    redis.call('ZREM', heads_key(class), batch_key)
  else
    redis.call('ZADD', heads_key(class), head[2], batch_key)
  end
end

-- A class that was empty gets no credit for that time: its pass is raised to the virtual time.
local function insert_waiting(id, class, batch_key, tag, weight)
  if count(class) == 0 then
    local pass = tonumber(redis.call('HGET', 'gq:pass', class) or 0)
    local virtual = tonumber(redis.call('HGET', 'gq:pass', 'vt') or 0)
    if pass < virtual then redis.call('HSET', 'gq:pass', class, exact(virtual)) end
  end
  redis.call('ZADD', waiting_key(class, batch_key), exact(tag), id)
  redis.call('ZADD', heads_key(class), 'LT', exact(tag), batch_key)
  redis.call('HINCRBY', 'gq:n', class, 1)
  charge('gq:work', class, weight)
end

-- A claimed task waits again, before everything that waits now; `alone`: from now on it runs alone.
local function requeue(id, alone)
  local task = redis.call('HMGET', task_key(id), 'cls', 'key', 'tag', 'wt', 'iso')
  local class, batch_key, tag, weight = task[1], task[2], tonumber(task[3]), tonumber(task[4])
  if alone and not task[5] then
    batch_key = alone_key(batch_key, id)
    redis.call('HSET', task_key(id), 'iso', 1, 'key', batch_key)
  end
  redis.call('HSET', task_key(id), 'st', WAITING)
  redis.call('HDEL', task_key(id), 'own', 'dq', 'tq')
  local virtual = tonumber(redis.call('HGET', 'gq:v', class) or 0)
  insert_waiting(id, class, batch_key, math.min(tag, virtual) - 1, weight)
end

-- An empty class forgets its users' tags and its virtual time: nobody waits, so nobody is owed anything.
local function remove_waiting(id, class, batch_key, weight)
  if redis.call('ZREM', waiting_key(class, batch_key), id) == 0 then return false end
  refresh_head(class, batch_key)
  if redis.call('HINCRBY', 'gq:n', class, -1) <= 0 then
    redis.call('HSET', 'gq:n', class, 0)
    redis.call('HSET', 'gq:work', class, 0)
    redis.call('HDEL', 'gq:v', class)
    redis.call('DEL', users_key(class))
  else
    charge('gq:work', class, -weight)
  end
  return true
end

-- The task never ran, so its user is not charged for it.
local function refund(class, user, weight)
  if redis.call('HEXISTS', users_key(class), user) == 1 then charge(users_key(class), user, -weight) end
end

local function end_task(id)
  redis.call('HSET', task_key(id), 'st', ENDED)
  redis.call('EXPIRE', task_key(id), TERMINAL_SECONDS)
end

-- Tickets. The list p{class} grows at its head only by push_ticket, which numbers what it pushes (`tk` in the entry; gq:tickets has each class's
-- last number). It shrinks at its tail: Celery reads there, gives back there what it does not keep (imagegenx_site/broker_restart.py), and a
-- ticket that is taken from the middle gives its place to the last one. So ticket `tk` lies at index last - tk, however long the list is.
-- The order of a list therefore means nothing; its length is the number of waiting tasks less the few tickets that a worker just holds.
local TAIL = 256  -- messages at the tail among which a ticket without a number is looked for: a worker gave it back

local function ticket_of(message)
  return message and string.match(message, '"id": ?"(%x+%-%x+%-%x+%-%x+%-%x+)')
end

local function push_ticket(class, id, message)
  redis.call('HSET', task_key(id), 'tk', redis.call('HINCRBY', 'gq:tickets', class, 1))
  redis.call('LPUSH', 'p' .. class, message)
end

local function send_to_worker(id, own_queue, message)
  redis.call('HSET', task_key(id), 'tq', 1)
  redis.call('LPUSH', own_queue, message)
end

local function last_ticket(class) return tonumber(redis.call('HGET', 'gq:tickets', class) or 0) end

-- The index and the message of the task's ticket; nil when it is not in the list.
local function find_ticket(class, id)
  local queue = 'p' .. class
  local number = redis.call('HGET', task_key(id), 'tk')
  if number then
    local index = last_ticket(class) - number
    local message = index >= 0 and redis.call('LINDEX', queue, index)
    if message and ticket_of(message) == id then return index, message end
  end
  local last = redis.call('LLEN', queue) - 1
  for stop = last, math.max(0, last - TAIL + 1), -TICKET_CHUNK do
    local start = math.max(0, stop - TICKET_CHUNK + 1)
    local messages = redis.call('LRANGE', queue, start, stop)
    for i = #messages, 1, -1 do
      if ticket_of(messages[i]) == id then return start + i - 1, messages[i] end
    end
  end
end

-- Takes the ticket at that index out of the list; the last one of the list moves there.
local function remove_ticket(class, index, message)
  local queue = 'p' .. class
  local last = redis.call('RPOP', queue)
  if last == message then return end
  redis.call('LSET', queue, index, last)
  local other = ticket_of(last)
  if other and redis.call('HGET', task_key(other), 'st') == WAITING then
    redis.call('HSET', task_key(other), 'tk', last_ticket(class) - index)
  end
end

-- Takes the task's ticket out of the queue of its class and answers it; nil when a worker holds it or it was lost.
local function take_ticket(class, id)
  local index, message = find_ticket(class, id)
  redis.call('HDEL', task_key(id), 'tk')
  if index then remove_ticket(class, index, message) end
  return message
end

-- A task's queue position: waiting (does it wait), ahead (waiting tasks of its class that come before it), workers (that live); tasks and
-- work: the waiting tasks of each class 0 to 3 and their weights; s_per_megapixel_step (in full batches), s_per_step (of its batch key) and
-- s_after_gpu (of its class, or else of all), as measured, absent where nothing was measured. Numbers may be texts: JSON here keeps 14 digits of them.
-- The class's keys are looked at in order, MAX_KEYS of them at most.
local MAX_KEYS = 256
local function queue_position(id, batch_key)
  local task = redis.call('HMGET', task_key(id), 'st', 'cls', 'tag')
  local answer = {waiting = task[1] == WAITING, ahead = 0, workers = redis.call('ZCOUNT', 'gq:lease', now_ms(), '+inf')}
  if answer.waiting then
    local before = '(' .. task[3]
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', heads_key(task[2]), '-inf', before, 'LIMIT', 0, MAX_KEYS)) do
      answer.ahead = answer.ahead + redis.call('ZCOUNT', waiting_key(task[2], key), '-inf', before)
    end
  end
  answer.tasks, answer.work = redis.call('HMGET', 'gq:n', 0, 1, 2, 3), redis.call('HMGET', 'gq:work', 0, 1, 2, 3)
  local speed = redis.call('HMGET', 'gq:speed', 'full', batch_key, 'after:' .. (task[2] or ''), 'after')
  answer.s_per_megapixel_step, answer.s_per_step, answer.s_after_gpu = speed[1] or nil, speed[2] or nil, speed[3] or speed[4] or nil
  return answer
end
