-- Admit one request's tasks against the quotas of its plan: all of them, or none.
--
-- KEYS[1] zset   open tasks of the user: task id -> ms when it was admitted
-- KEYS[2] hash   admitted for the user today: images, work
-- ARGV: now ms, limit of open tasks, limit of images, limit of work (-1: none), images, work, 1 when the caller has
--       just compared KEYS[1] with Postgres, then the task ids
-- Answer: {which, open, images, work}: which is "ok", the limit that was exceeded ("concurrent", "images", "work"), or
--         "unknown" when KEYS[1] does not exist and must be filled from Postgres first.
local now, limits = ARGV[1], {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local images, work = tonumber(ARGV[5]), tonumber(ARGV[6])
local open = redis.call('ZCARD', KEYS[1])
local used = redis.call('HMGET', KEYS[2], 'images', 'work')
local used_images, used_work = tonumber(used[1] or 0), tonumber(used[2] or 0)

if redis.call('EXISTS', KEYS[1]) == 0 and ARGV[7] == '0' and limits[1] >= 0 then
  return {'unknown', 0, used_images, used_work}
end

local function exceeds(value, limit)
  return limit >= 0 and value > limit
end

if exceeds(open + #ARGV - 7, limits[1]) then return {'concurrent', open, used_images, used_work} end
if exceeds(used_images + images, limits[2]) then return {'images', open, used_images, used_work} end
if exceeds(used_work + work, limits[3]) then return {'work', open, used_images, used_work} end

for index = 8, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[index]) end
redis.call('EXPIRE', KEYS[1], 90000)
redis.call('HINCRBY', KEYS[2], 'images', images)
redis.call('HINCRBY', KEYS[2], 'work', work)
redis.call('EXPIRE', KEYS[2], 90000)
return {'ok', open + #ARGV - 7, used_images + images, used_work + work}
