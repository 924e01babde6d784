-- Count one request under several names at once.
-- KEYS: counters; ARGV[1]: length of the window in s. Answer: the counts, with this request.
local counts = {}
for index, key in ipairs(KEYS) do
  counts[index] = redis.call('INCR', key)
  if counts[index] == 1 then redis.call('EXPIRE', key, ARGV[1]) end
end
return counts
