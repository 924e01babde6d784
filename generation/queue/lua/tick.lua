-- ARGV: JSON {worker, classes (how many), held: [{id, fence}]}; then of each held task its hash as JSON. One call a step.
-- Answers JSON {p0_waits (and it is its turn: it may preempt), waiting (tasks of all classes), lease_expired (some worker's), cancelled,
-- taken_over}: the ids of held tasks whose cancel was asked for, and of those that another worker has taken over. A task that Redis has
-- forgotten is written anew: a running task outlives a flush.
local ask = cjson.decode(ARGV[1])
local answer = {p0_waits = false, waiting = 0, cancelled = {}, taken_over = {}}
answer.lease_expired = redis.call('ZCOUNT', 'gq:lease', '-inf', now_ms()) > 0

local best, best_pass
for class = 0, ask.classes - 1 do
  local waiting = count(class)
  answer.waiting = answer.waiting + waiting
  if waiting > 0 then
    local pass = tonumber(redis.call('HGET', 'gq:pass', class) or 0)
    if not best or pass < best_pass then best, best_pass = class, pass end
  end
end
answer.p0_waits = best == 0

local function register_anew(id, fence, hash)
  hash.st, hash.own, hash.at = RUNNING, ask.worker, fence
  for field, value in pairs(hash) do redis.call('HSET', task_key(id), field, value) end
  redis.call('SADD', running_key(ask.worker), id)
end

for i, held in ipairs(ask.held) do
  local id, fence = held.id, tostring(held.fence)
  local task = redis.call('HMGET', task_key(id), 'st', 'own', 'at', 'cx')
  if not task[1] then
    register_anew(id, fence, cjson.decode(ARGV[i + 1]))
  elseif task[1] ~= RUNNING or task[2] ~= ask.worker or task[3] ~= fence then
    answer.taken_over[#answer.taken_over + 1] = id
  elseif task[4] then
    answer.cancelled[#answer.cancelled + 1] = id
  end
end
return cjson.encode(answer)
