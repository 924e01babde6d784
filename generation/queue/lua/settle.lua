-- ARGV: worker, id, fence ('' = whichever), outcome: 'ended', 'waiting' (back to its place in the order) or 'alone' (the same, but it
-- shares no batch any more). Only the owner with the right fence may say so; answers 1 if it was, else 0.
local worker, id, fence, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local task = redis.call('HMGET', task_key(id), 'st', 'own', 'at', 'cls', 'key', 'wt', 'tag', 'iso')
redis.call('SREM', running_key(worker), id)
if task[1] ~= 'r' or task[2] ~= worker or (fence ~= '' and task[3] ~= fence) then return 0 end
if outcome == 'ended' then
  end_task(id, 'x')
  return 1
end
local batch = task[5]
if outcome == 'alone' and not task[8] then
  batch = alone_key(batch, id)
  redis.call('HSET', task_key(id), 'iso', 1, 'key', batch)
end
redis.call('HSET', task_key(id), 'st', 'w')
redis.call('HDEL', task_key(id), 'own')
insert_first(id, task[4], batch, tonumber(task[7]), tonumber(task[6]))
return 1
