-- A reader has loaded under its lease. Returns 1 when the lease was still there.
-- KEYS[1] slot; ARGV[1] lease, ARGV[2] value, empty: none, ARGV[3] life in ms
if redis.call('GET', KEYS[1]) == ARGV[1] then
  if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  end
  return 1
end
return 0
