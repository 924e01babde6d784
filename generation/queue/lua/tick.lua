-- ARGV: worker, shares (comma-separated), then id, fence, hash as JSON for each task on board. One call a step.
-- Answers {P0 may preempt (0/1), waiting tasks, some worker's lease ran out (0/1), state of each task in order}: 'ok', 'cancel', or
-- 'lost' (somebody else owns it now). A task that Redis has forgotten is written anew: a running task outlives a flush.
local worker = ARGV[1]
local now = now_ms()
local answer = {0, 0, 0}

local best, best_pass, class = nil, nil, 0
for _ in string.gmatch(ARGV[2], '[^,]+') do
  local waiting = count(class)
  answer[2] = answer[2] + waiting
  if waiting > 0 then
    local pass = tonumber(redis.call('HGET', 'gq:pass', class) or 0)
    if not best or pass < best_pass then best, best_pass = class, pass end
  end
  class = class + 1
end
if best == 0 then answer[1] = 1 end
if redis.call('ZCOUNT', 'gq:lease', '-inf', now) > 0 then answer[3] = 1 end

for i = 3, #ARGV, 3 do
  local id, fence = ARGV[i], ARGV[i + 1]
  local task = redis.call('HMGET', task_key(id), 'st', 'own', 'at', 'cx')
  local verdict = 'lost'
  if not task[1] then
    local hash = cjson.decode(ARGV[i + 2])
    hash.st, hash.own, hash.at = RUNNING, worker, fence
    for field, value in pairs(hash) do redis.call('HSET', task_key(id), field, value) end
    redis.call('SADD', running_key(worker), id)
    verdict = 'ok'
  elseif task[1] == RUNNING and task[2] == worker and task[3] == fence then
    verdict = task[4] and 'cancel' or 'ok'
  end
  answer[#answer + 1] = verdict
end
return answer
