-- ARGV: id. A worker is about to give its ticket back to the queue of its class: it will lie at the tail.
local task = redis.call('HMGET', task_key(ARGV[1]), 'st', 'cls')
local state, class = task[1], task[2]
if state == WAITING then redis.call('HSET', task_key(ARGV[1]), 'tk', last_ticket(class) - redis.call('LLEN', 'p' .. class)) end
