-- A writer has committed this version. Its own marker becomes the value; what is older goes; an empty slot stays empty, because whatever
-- took the marker away may have made room for something newer that is gone as well. Returns 1 when the marker was still there.
-- KEYS[1] slot; ARGV[1] version (20 digits), ARGV[2] value, empty: none, ARGV[3] life in ms, ARGV[4] channel, ARGV[5] message
local slot = redis.call('GET', KEYS[1])
local own = 0
if slot then
  local kind = string.byte(slot)
  local version = string.sub(slot, 2, 21)
  if kind == 77 and version == ARGV[1] then
    own = 1
  end
  if own == 1 or (kind == 86 and version < ARGV[1]) then
    if ARGV[2] == '' then
      redis.call('DEL', KEYS[1])
    else
      redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    end
  elseif kind == 76 or (kind == 77 and version < ARGV[1]) then
    redis.call('DEL', KEYS[1])
  end
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return own
