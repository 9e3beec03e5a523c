-- A writer holds the row's lock and is about to commit this version. Nothing older stays, and no lease.
-- KEYS[1] slot; ARGV[1] version (20 digits), ARGV[2] life in ms, ARGV[3] channel, ARGV[4] message
local slot = redis.call('GET', KEYS[1])
local kind = slot and string.byte(slot) or 0
if not ((kind == 77 or kind == 86) and string.sub(slot, 2, 21) >= ARGV[1]) then
  redis.call('SET', KEYS[1], 'M' .. ARGV[1], 'PX', ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
