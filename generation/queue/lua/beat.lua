-- ARGV: worker, lease ms. Renews the worker's lease; answers 1 when it had none. When nobody has beaten for 2 s, Redis itself was away:
-- then every lease looks expired although its worker lives, so nobody's tasks are requeued (gq:grace) until all had time to renew.
local now = now_ms()
local last = tonumber(redis.call('GET', 'gq:lastbeat') or 0)
if now - last > 2000 then redis.call('SET', 'gq:grace', now, 'PX', 10000) end
redis.call('SET', 'gq:lastbeat', now)
return redis.call('ZADD', 'gq:lease', now + tonumber(ARGV[2]), ARGV[1])
