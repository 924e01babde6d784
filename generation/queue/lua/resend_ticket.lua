-- ARGV: id, its ticket. Puts a ticket where the task is now: into the queue of its class if it waits there without one, into that of the worker
-- that runs it. Answers 1 if it was needed.
local id, ticket = ARGV[1], ARGV[2]
local task = redis.call('HMGET', task_key(id), 'st', 'cls', 'dq', 'tq')
local state, class, own_queue, sent = task[1], task[2], task[3], task[4]
if state == WAITING and not find_ticket(class, id) then
  push_ticket(class, id, ticket)
elseif state == RUNNING and own_queue and not sent then
  send_to_worker(id, own_queue, ticket)
else
  return 0
end
return 1
