-- One attempt, or what became of it. A counter is a hash: n (failures that still count), next (ms; before it no attempt).
-- KEYS: counters, and last the mark of an account that has come in from this address.
-- ARGV[1]: begin, succeed or refund; ARGV[2]: ms until a counter is forgotten; ARGV[3]: s that the mark lives;
-- then for each counter: failures without a pause, first and longest pause in ms, 1 where the mark lifts it.
-- begin answers the ms to wait (0: go on; the attempt counts as failed until succeed or refund takes it back).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mark, counters = KEYS[#KEYS], #KEYS - 1
local known = redis.call('EXISTS', mark) == 1

local function lifted(index) return known and ARGV[3 + index * 4] == '1' end

local function free(index) return tonumber(ARGV[index * 4]) end

local function pause(index, n)
  if n < free(index) then return 0 end
  return math.min(ARGV[2 + index * 4], ARGV[1 + index * 4] * 2 ^ math.min(n - free(index), 30))
end

if ARGV[1] == 'begin' then
  local wait = 0
  for index = 1, counters do
    local next = tonumber(redis.call('HGET', KEYS[index], 'next') or 0)
    if not lifted(index) and next > now then wait = math.max(wait, next - now) end
  end
  if wait > 0 then return wait end
  for index = 1, counters do
    if not lifted(index) then
      local ms = pause(index, redis.call('HINCRBY', KEYS[index], 'n', 1))
      redis.call('HSET', KEYS[index], 'next', string.format('%.0f', now + ms))
      redis.call('PEXPIRE', KEYS[index], string.format('%.0f', ARGV[2] + ms))
    end
  end
  return 0
end

for index = 1, counters do
  if redis.call('EXISTS', KEYS[index]) == 1 and not lifted(index) then
    if redis.call('HINCRBY', KEYS[index], 'n', -1) < free(index) then
      redis.call('HDEL', KEYS[index], 'next')
    end
  end
end
if ARGV[1] == 'succeed' then
  redis.call('DEL', KEYS[1])
  redis.call('SET', mark, '1', 'EX', ARGV[3])
end
return 0
