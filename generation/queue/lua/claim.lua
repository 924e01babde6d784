-- ARGV: one JSON object, as WorkerQueue.claim in generation/queue/worker.py makes it:
--   worker, own_queue (of its tickets), slots (samples), shares (of the classes)
--   models (names or keys that it serves; empty: all), loaded (keys of those in its memory; absent: all)
--   warm_key, only_key, only_class (absent: none, any), closed (keys that the worker is full of)
--   join: tasks run there, so only the warm key or P0 may follow, and no task that must run alone
--   affinity_ms, window_ms, min_batch, cold_ms (so long a task is left to a worker that has its model in memory, if there are others)
-- Answers JSON {wait, tasks: [{id, class, key, fence, hash as JSON}]}: wait > 0 means that work is here but waits so many ms for others of its batch key.
--
-- 1 the class: smallest pass among those that have work for this worker (stride scheduling; ties go to the more urgent)
-- 2 the key: the one whose first task has the smallest tag, unless the warm key has work and that first task is younger than the affinity
-- 3 the tasks: slot by slot from that key, each from the class whose turn it is and charged to it; a batch led by P0 takes only P0
-- 4 the tickets of the claimed tasks move to the worker's own queue
local ask = cjson.decode(ARGV[1])
local served, loaded, closed = #ask.models > 0 and as_set(ask.models), as_set(ask.loaded), as_set(ask.closed)
local CLASSES = #ask.shares
local now = now_ms()

local function serves(batch_key)
  if closed[batch_key] then return false end
  local key = parse_batch_key(batch_key)
  if ask.join and key.alone ~= '' then return false end
  return not served or served[key.name] or served[key.model]
end

-- For cold_ms, tasks of models not loaded here are left to workers that have them loaded. `soonest`: ms until the first of them may be
-- claimed by every worker.
local soonest = nil
local others_live = redis.call('ZCARD', 'gq:lease') > 1
local function for_others(batch_key, age)
  if not loaded or not others_live or age >= ask.cold_ms or loaded[parse_batch_key(batch_key).model] then return false end
  soonest = math.min(soonest or ask.cold_ms, ask.cold_ms - age)
  return true
end

local function pass_of(class) return tonumber(redis.call('HGET', 'gq:pass', class) or 0) end

-- Drops what has expired from the front of a key; the reconciler expires the rows. Answers the first live task's id, tag and time.
-- One call drops at most MAX_DROPPED, so that a million expired tasks never hold Redis; the next call goes on.
local MAX_DROPPED, dropped = 100, 0
local function first_live(class, batch_key)
  while dropped < MAX_DROPPED do
    local head = redis.call('ZRANGE', waiting_key(class, batch_key), 0, 0, 'WITHSCORES')
    if #head == 0 then return nil end
    local task = redis.call('HMGET', task_key(head[1]), 'exp', 'wt', 'usr', 'sc')
    if task[1] and (tonumber(task[1]) == 0 or tonumber(task[1]) > now) then return head[1], tonumber(head[2]), tonumber(task[4]) end
    dropped = dropped + 1
    remove_waiting(head[1], class, batch_key, tonumber(task[2] or 0))
    take_ticket(class, head[1])
    if task[1] then
      refund(class, task[3], tonumber(task[2]))
      end_task(head[1])
    end
  end
end

-- The key of a class to serve: its name, its first task's tag and age. Keys of other workers' models are passed over.
local function choose_key(class)
  if ask.only_key then
    local id, tag, created = first_live(class, ask.only_key)
    if id then return ask.only_key, tag, now - created end
    return nil
  end
  local from = 0
  while dropped < MAX_DROPPED do
    local keys = redis.call('ZRANGE', heads_key(class), from, from + 15)
    if #keys == 0 then return nil end
    for _, batch_key in ipairs(keys) do
      if serves(batch_key) then
        local id, tag, created = first_live(class, batch_key)
        if not id then return choose_key(class) end
        if not for_others(batch_key, now - created) then return batch_key, tag, now - created end
      end
    end
    from = from + 16
  end
end

local function prefer_warm(class, batch_key, age)
  local warm = ask.warm_key
  if not warm or warm == batch_key or age >= ask.affinity_ms then return batch_key end
  if parse_batch_key(batch_key).alone ~= '' or not serves(warm) then return batch_key end
  if first_live(class, warm) then return warm end
  return batch_key
end

local function choose()
  local order = {}
  for class = 0, CLASSES - 1 do
    if count(class) > 0 and (not ask.only_class or ask.only_class == class) then order[#order + 1] = class end
  end
  table.sort(order, function(a, b)
    local pa, pb = pass_of(a), pass_of(b)
    if pa == pb then return a < b end
    return pa < pb
  end)
  for _, class in ipairs(order) do
    local batch_key, tag, age = choose_key(class)
    if batch_key then return class, prefer_warm(class, batch_key, age), tag, age end
  end
end

-- Answers whether the task was taken: it is not when it needs more slots than are left (unless it is the first).
local function take(id, class, batch_key, slots_left, claimed)
  local task = redis.call('HMGET', task_key(id), 'n', 'wt', 'tag')
  local samples, weight = tonumber(task[1]), tonumber(task[2])
  if samples > slots_left and #claimed > 0 then return nil end
  remove_waiting(id, class, batch_key, weight)
  charge('gq:pass', class, weight / ask.shares[class + 1])
  local fence = redis.call('HINCRBY', task_key(id), 'at', 1)
  redis.call('HSET', task_key(id), 'st', RUNNING, 'own', ask.worker, 'dq', ask.own_queue)
  local ticket = take_ticket(class, id)
  if ticket then send_to_worker(id, ask.own_queue, ticket) end
  redis.call('SADD', running_key(ask.worker), id)
  claimed[#claimed + 1] = {id = id, class = class, key = batch_key, fence = fence}
  return samples
end

local POLL_MS = 20
local class, batch_key, head_tag, head_age = choose()
if not class and soonest and not ask.join then return cjson.encode({wait = math.min(soonest, POLL_MS)}) end
if not class or (ask.join and class > 0 and ask.warm_key and batch_key ~= ask.warm_key) then return cjson.encode({wait = 0}) end
local waiting = redis.call('ZCARD', waiting_key(class, batch_key))
if class > 0 and head_age < ask.window_ms and waiting < ask.min_batch then return cjson.encode({wait = ask.window_ms - head_age}) end

redis.call('HSET', 'gq:pass', 'vt', exact(pass_of(class)))
if head_tag > tonumber(redis.call('HGET', 'gq:v', class) or 0) then redis.call('HSET', 'gq:v', class, exact(head_tag)) end

local claimed, left = {}, ask.slots
local turn = class
while left > 0 and turn do
  local id = first_live(turn, batch_key)
  local used = id and take(id, turn, batch_key, left, claimed)
  if id and not used then break end
  left = left - (used or 0)
  turn = nil
  local low, high = 0, CLASSES - 1
  if class == 0 or ask.only_class then low, high = class, class end
  for other = low, high do
    local passed_over = turn and pass_of(turn) <= pass_of(other)
    if not passed_over and redis.call('EXISTS', waiting_key(other, batch_key)) == 1 then turn = other end
  end
end

for _, task in ipairs(claimed) do
  local fields, hash = redis.call('HGETALL', task_key(task.id)), {}
  for i = 1, #fields, 2 do hash[fields[i]] = fields[i + 1] end
  task.hash = cjson.encode(hash)
end
return cjson.encode({wait = 0, tasks = claimed})
