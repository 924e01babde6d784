-- ARGV: worker ('' = every worker whose lease ran out), cause, alone (1: one of its tasks is to blame, as when a step hung).
-- Requeues a dead worker's tasks before all that wait. After their first crash they share batches as before: most workers die of something
-- else, and a batch that runs together is done soonest. After the second, each runs alone, because one of them may be the cause. A task that
-- crashes its worker alone, and not for the first time, is given up. A task that runs alone only because its inference failed may have died
-- in a crash caused by another task. Answers JSON {requeued, given_up} (ids) and leaves the same for the reconciler:
-- gq:resend_tickets (JSON {id, worker, cause}), gq:given_up (the same), gq:to_cancel (ids whose cancel was asked for),
-- gq:lost_workers ({worker, cause, at in ms}).
local GRACE_MS = 2000
local now = now_ms()
local workers, cause, alone = {}, ARGV[2], ARGV[3] == '1'

if ARGV[1] ~= '' then
  workers = {ARGV[1]}
else
  local last = tonumber(redis.call('GET', 'gq:lastbeat') or 0)
  local grace = tonumber(redis.call('GET', 'gq:grace') or 0)
  if now - last > GRACE_MS and grace == 0 then
    redis.call('SET', 'gq:grace', now, 'PX', 10000)
    grace = now
  end
  if grace > 0 and now - grace < GRACE_MS then return cjson.encode({requeued = {}, given_up = {}}) end
  workers = redis.call('ZRANGEBYSCORE', 'gq:lease', '-inf', now)
end

local answer = {requeued = {}, given_up = {}}
for _, worker in ipairs(workers) do
  for _, id in ipairs(redis.call('SMEMBERS', running_key(worker))) do
    local task = redis.call('HMGET', task_key(id), 'st', 'own', 'cx', 'iso', 'cr')
    if task[1] == RUNNING and task[2] == worker then
      local note = cjson.encode({id = id, worker = worker, cause = cause})
      if task[3] then
        end_task(id)
        redis.call('RPUSH', 'gq:to_cancel', id)
      elseif task[4] and tonumber(task[5] or 0) > 0 then
        end_task(id)
        redis.call('RPUSH', 'gq:given_up', note)
        answer.given_up[#answer.given_up + 1] = id
      else
        local crashes = redis.call('HINCRBY', task_key(id), 'cr', 1)
        requeue(id, crashes > 1 or alone)
        redis.call('RPUSH', 'gq:resend_tickets', note)
        answer.requeued[#answer.requeued + 1] = id
      end
    end
  end
  redis.call('DEL', running_key(worker))
  if redis.call('ZSCORE', 'gq:lease', worker) then redis.call('RPUSH', 'gq:lost_workers', cjson.encode({worker = worker, cause = cause, at = now})) end
  redis.call('ZREM', 'gq:lease', worker)
end

return cjson.encode(answer)
