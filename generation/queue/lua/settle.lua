-- ARGV: worker, id, fence ('' = whichever), release: a word of Release in generation/queue/values.py. 'ended' and 'moved' end the entry;
-- 'waiting' puts it back to its place in the order; 'alone' does the same, and it shares no batch any more. Only the owner with the right
-- fence may say so; answers 1 if it was, else 0.
local worker, id, fence, release = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local task = redis.call('HMGET', task_key(id), 'st', 'own', 'at', 'cls', 'key', 'wt', 'tag', 'iso')
redis.call('SREM', running_key(worker), id)
if task[1] ~= RUNNING or task[2] ~= worker or (fence ~= '' and task[3] ~= fence) then return 0 end
if release == 'ended' or release == 'moved' then
  end_task(id)
  return 1
end
local batch = task[5]
if release == 'alone' and not task[8] then
  batch = alone_key(batch, id)
  redis.call('HSET', task_key(id), 'iso', 1, 'key', batch)
end
redis.call('HSET', task_key(id), 'st', WAITING)
redis.call('HDEL', task_key(id), 'own')
insert_first(id, task[4], batch, tonumber(task[7]), tonumber(task[6]))
return 1
