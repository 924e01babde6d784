-- ARGV: worker, id, fence ('' = whichever), release: a word of Release in generation/queue/values.py. 'ended' and 'moved' end the entry;
-- 'waiting' requeues it; 'alone' does the same, and from then on it runs alone. Only the owner with the right
-- fence may say so; answers 1 if it was, else 0.
local worker, id, fence, release = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local task = redis.call('HMGET', task_key(id), 'st', 'own', 'at')
redis.call('SREM', running_key(worker), id)
if task[1] ~= RUNNING or task[2] ~= worker or (fence ~= '' and task[3] ~= fence) then return 0 end
if release == 'ended' or release == 'moved' then
  end_task(id)
else
  requeue(id, release == 'alone')
end
return 1
