-- ARGV: id, batch key. Answers the task's prospects, see layout.lua.
return outlook(ARGV[1], ARGV[2])
