-- ARGV: worker, own ticket queue, slots (samples), models served (comma-separated, '' = all), warm key ('' = none), only this key
-- ('' = any), only this class ('' = any), affinity ms, window ms, least batch, shares of the classes (comma-separated), closed keys
-- (comma-separated: the worker is full of them), join (1: somebody is on board, so only the warm key or P0 may follow, and nobody who
-- must run alone), models in memory ("name@revision", comma-separated; '*' = all), cold ms (so long a task is left to a worker that has
-- its model in memory, if there are other workers at all).
-- Answers {wait ms, id, class, key, fence, hash as JSON, ...}: wait ms > 0 means that work is here but may wait for mates so long.
--
-- 1 the class: smallest pass among those that have work for this worker (stride scheduling; ties go to the more urgent)
-- 2 the key: the one whose first task has the smallest tag, unless the warm key has work and that first task is younger than the affinity
-- 3 the tasks: slot by slot from that key, each from the class whose turn it is and charged to it; a batch led by P0 takes only P0
-- 4 the tickets of the claimed tasks move to the worker's own queue
local worker, own_queue, slots = ARGV[1], ARGV[2], tonumber(ARGV[3])
local warm, only_key, only_class = ARGV[5], ARGV[6], ARGV[7]
local affinity, window, least = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local now = now_ms()

local served, serves_all = {}, ARGV[4] == ''
for model in string.gmatch(ARGV[4], '[^,]+') do served[model] = true end
local shares = {}
for share in string.gmatch(ARGV[11], '[^,]+') do shares[#shares + 1] = tonumber(share) end
local CLASSES = #shares
local closed = {}
for batch in string.gmatch(ARGV[12], '[^,]+') do closed[batch] = true end
local join = ARGV[13] == '1'

local function serves(batch)
  if closed[batch] then return false end
  local key = batch_key(batch)
  if join and key.alone ~= '' then return false end
  return serves_all or served[key.name] or served[key.model]
end

-- Models that this worker would have to load are for others at first. `soonest`: ms until the first of those is for everybody.
local loaded, all_loaded, cold, soonest = {}, ARGV[14] == '*', tonumber(ARGV[15]), nil
for model in string.gmatch(ARGV[14], '[^,]+') do loaded[model] = true end
local others_live = redis.call('ZCARD', 'gq:lease') > 1
local function for_others(batch, age)
  if all_loaded or not others_live or age >= cold or loaded[batch_key(batch).model] then return false end
  soonest = math.min(soonest or cold, cold - age)
  return true
end

local function pass_of(class) return tonumber(redis.call('HGET', 'gq:pass', class) or 0) end

-- Drops what has expired from the front of a key; the reconciler tells its owner. Answers the first live task's id, tag and time.
-- One call drops at most MAX_DROPPED, so that a million expired tasks never hold Redis; the next call goes on.
local MAX_DROPPED, dropped = 500, 0
local function first_live(class, batch)
  while dropped < MAX_DROPPED do
    local head = redis.call('ZRANGE', waiting_key(class, batch), 0, 0, 'WITHSCORES')
    if #head == 0 then return nil end
    local task = redis.call('HMGET', task_key(head[1]), 'exp', 'wt', 'usr', 'sc')
    if task[1] and (tonumber(task[1]) == 0 or tonumber(task[1]) > now) then return head[1], tonumber(head[2]), tonumber(task[4]) end
    dropped = dropped + 1
    remove_waiting(head[1], class, batch, tonumber(task[2] or 0))
    if task[1] then
      refund(class, task[3], tonumber(task[2]))
      end_task(head[1], 'x')
      redis.call('RPUSH', 'gq:expired', head[1])
    end
  end
end

-- The key of a class to serve: its name, its first task's tag and age. Keys of other workers' models are passed over.
local function choose_key(class)
  if only_key ~= '' then
    local id, tag, created = first_live(class, only_key)
    if id then return only_key, tag, now - created end
    return nil
  end
  local from = 0
  while dropped < MAX_DROPPED do
    local keys = redis.call('ZRANGE', heads_key(class), from, from + 15)
    if #keys == 0 then return nil end
    for _, batch in ipairs(keys) do
      if serves(batch) then
        local id, tag, created = first_live(class, batch)
        if not id then return choose_key(class) end
        if not for_others(batch, now - created) then return batch, tag, now - created end
      end
    end
    from = from + 16
  end
end

local function prefer_warm(class, batch, age)
  if warm == '' or warm == batch or age >= affinity or batch_key(batch).alone ~= '' or not serves(warm) then return batch end
  if first_live(class, warm) then return warm end
  return batch
end

local function choose()
  local order = {}
  for class = 0, CLASSES - 1 do
    if count(class) > 0 and (only_class == '' or tonumber(only_class) == class) then order[#order + 1] = class end
  end
  table.sort(order, function(a, b)
    local pa, pb = pass_of(a), pass_of(b)
    if pa == pb then return a < b end
    return pa < pb
  end)
  for _, class in ipairs(order) do
    local batch, tag, age = choose_key(class)
    if batch then return class, prefer_warm(class, batch, age), tag, age end
  end
end

-- Answers whether the task was taken: it is not when it needs more slots than are left (unless it is the first).
local function take(id, class, batch, slots_left, claimed)
  local task = redis.call('HMGET', task_key(id), 'n', 'wt', 'tag')
  local samples, weight = tonumber(task[1]), tonumber(task[2])
  if samples > slots_left and #claimed > 0 then return nil end
  remove_waiting(id, class, batch, weight)
  charge('gq:pass', class, weight / shares[class + 1])
  local fence = redis.call('HINCRBY', task_key(id), 'at', 1)
  redis.call('HSET', task_key(id), 'st', 'r', 'own', worker)
  redis.call('SADD', running_key(worker), id)
  claimed[#claimed + 1] = {id, class, batch, fence}
  return samples
end

local POLL_MS = 20
local class, batch, head_tag, head_age = choose()
if not class and soonest and not join then return {math.min(soonest, POLL_MS)} end
if not class or (join and class > 0 and warm ~= '' and batch ~= warm) then return {0} end
local waiting = redis.call('ZCARD', waiting_key(class, batch))
if class > 0 and head_age < window and waiting < least then return {window - head_age} end

redis.call('HSET', 'gq:pass', 'vt', exact(pass_of(class)))
if head_tag > tonumber(redis.call('HGET', 'gq:v', class) or 0) then redis.call('HSET', 'gq:v', class, exact(head_tag)) end

local claimed, left = {}, slots
local turn = class
while left > 0 and turn do
  local id = first_live(turn, batch)
  local used = id and take(id, turn, batch, left, claimed)
  if id and not used then break end
  left = left - (used or 0)
  turn = nil
  local low, high = 0, CLASSES - 1
  if class == 0 or only_class ~= '' then low, high = class, class end
  for other = low, high do
    local passed_over = turn and pass_of(turn) <= pass_of(other)
    if not passed_over and redis.call('EXISTS', waiting_key(other, batch)) == 1 then turn = other end
  end
end

local answer, wanted, wanted_count = {0}, {}, {}
for _, task in ipairs(claimed) do
  local id, of = task[1], task[2]
  wanted[of] = wanted[of] or {}
  wanted[of][id] = true
  wanted_count[of] = (wanted_count[of] or 0) + 1
  local fields, hash = redis.call('HGETALL', task_key(id)), {}
  for i = 1, #fields, 2 do hash[fields[i]] = fields[i + 1] end
  for _, value in ipairs({id, tostring(of), task[3], task[4], cjson.encode(hash)}) do answer[#answer + 1] = value end
end
for of, ids in pairs(wanted) do take_tickets(of, ids, wanted_count[of], own_queue) end
return answer
