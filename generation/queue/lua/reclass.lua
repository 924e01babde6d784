-- ARGV: id, new class. A waiting task goes to the end of its user's work in the new class, its ticket with it. Answers 1 if it was moved,
-- 0 if it does not wait here (any more).
local id, class = ARGV[1], ARGV[2]
local key = task_key(id)
local task = redis.call('HMGET', key, 'st', 'cls', 'key', 'wt', 'usr')
local state, before, batch_key, weight, user = task[1], task[2], task[3], tonumber(task[4]), task[5]
if state ~= WAITING or before == class then return 0 end
remove_waiting(id, before, batch_key, weight)
refund(before, user, weight)
local ticket = take_ticket(before, id)
local virtual = tonumber(redis.call('HGET', 'gq:v', class) or 0)
local tag = math.max(virtual, tonumber(redis.call('HGET', users_key(class), user) or 0))
redis.call('HSET', users_key(class), user, exact(tag + weight))
redis.call('HSET', key, 'cls', class, 'tag', exact(tag))
insert_waiting(id, class, batch_key, tag, weight)
if ticket then push_ticket(class, id, ticket) end
return 1
