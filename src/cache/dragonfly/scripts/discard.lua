-- What is there is of no use to its readers: a value of another life, or nothing of ours. Markers and leases stay.
-- KEYS[1] slot
local slot = redis.call('GET', KEYS[1])
local kind = slot and string.byte(slot) or 0
if slot and kind ~= 77 and kind ~= 76 then
  return redis.call('DEL', KEYS[1])
end
return 0
