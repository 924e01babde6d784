-- ARGV: the task as JSON {id, class, key, user, weight, created_ms, expires_ms, model, samples}; its ticket, the Celery message, or none.
-- Answers its queue position as JSON, see layout.lua, with new: whether it was unknown here. If it waits or runs already, nothing changes.
-- Order inside a class is start-time fair queueing: a task's tag is where its user's work ends so far, never before the class's virtual
-- time; each task moves its user's end by its weight. So users take turns by the work they ask for, and a newcomer starts at the present.
local function insert(task)
  local virtual = tonumber(redis.call('HGET', 'gq:v', task.class) or 0)
  local tag = math.max(virtual, tonumber(redis.call('HGET', users_key(task.class), task.user) or 0))
  redis.call('HSET', users_key(task.class), task.user, exact(tag + task.weight))
  redis.call('DEL', task_key(task.id))
  redis.call('HSET', task_key(task.id), 'st', WAITING, 'cls', task.class, 'key', task.key, 'usr', task.user, 'wt', exact(task.weight),
    'sc', exact(task.created_ms), 'exp', exact(task.expires_ms), 'mdl', task.model, 'n', task.samples, 'tag', exact(tag), 'at', 0)
  insert_waiting(task.id, task.class, task.key, tag, task.weight)
end

local task, ticket = cjson.decode(ARGV[1]), ARGV[2]
local state = redis.call('HGET', task_key(task.id), 'st')
local new = state ~= WAITING and state ~= RUNNING
if new then
  insert(task)
  if ticket then push_ticket(task.class, task.id, ticket) end
end
local answer = queue_position(task.id, task.key)
answer.new = new
return cjson.encode(answer)
