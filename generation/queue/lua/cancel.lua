-- ARGV: id. A waiting task is removed with its ticket ('removed'); a running one is flagged, its worker sees it at the next step
-- ('signalled'); anything else is 'absent'.
local id = ARGV[1]
local task = redis.call('HMGET', task_key(id), 'st', 'cls', 'key', 'wt', 'usr')
local state, class, batch_key, weight, user = task[1], task[2], task[3], tonumber(task[4]), task[5]
if state == WAITING then
  remove_waiting(id, class, batch_key, weight)
  refund(class, user, weight)
  take_ticket(class, id)
  end_task(id)
  return 'removed'
elseif state == RUNNING then
  redis.call('HSET', task_key(id), 'cx', 1)
  return 'signalled'
end
return 'absent'
