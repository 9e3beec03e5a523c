-- A writer has rolled back.
-- KEYS[1] slot; ARGV[1] version (20 digits)
if redis.call('GET', KEYS[1]) == 'M' .. ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
