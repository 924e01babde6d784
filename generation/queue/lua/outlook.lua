-- ARGV: id, batch key. Answers the task's prospects as JSON, see layout.lua.
return cjson.encode(outlook(ARGV[1], ARGV[2]))
