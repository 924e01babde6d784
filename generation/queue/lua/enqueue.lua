-- ARGV: id, class, batch key, user, weight, created ms, expires ms, model, samples, ticket (the Celery message). Answers {1 if the
-- task is new here, 0 if it already waits or runs (then nothing changes); its prospects, see layout.lua}.
-- Order inside a class is start-time fair queueing: a task's tag is where its user's work ends so far, never before the class's virtual
-- time; each task moves its user's end by its weight. So users take turns by the work they ask for, and a newcomer starts at the present.
local id, class, batch, user, weight = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local key = task_key(id)
local state = redis.call('HGET', key, 'st')
if state == WAITING or state == RUNNING then return {0, unpack(outlook(id, batch))} end

local virtual = tonumber(redis.call('HGET', 'gq:v', class) or 0)
local tag = math.max(virtual, tonumber(redis.call('HGET', users_key(class), user) or 0))
redis.call('HSET', users_key(class), user, exact(tag + weight))
redis.call('DEL', key)
redis.call('HSET', key, 'st', WAITING, 'cls', class, 'key', batch, 'usr', user, 'wt', exact(weight), 'sc', ARGV[6], 'exp', ARGV[7],
  'mdl', ARGV[8], 'n', ARGV[9], 'tag', exact(tag), 'at', 0)
insert_waiting(id, class, batch, tag, weight)
if ARGV[10] then redis.call('LPUSH', 'p' .. class, ARGV[10]) end
return {1, unpack(outlook(id, batch))}
