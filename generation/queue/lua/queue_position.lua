-- ARGV: id, batch key. Answers the task's queue position as JSON, see layout.lua.
return cjson.encode(queue_position(ARGV[1], ARGV[2]))
