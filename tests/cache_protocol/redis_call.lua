-- Runs a script in Lua 5.4, as Dragonfly does, with as much of redis.call as the scripts use. Prints what it answered and left behind.
--
--   lua5.4 redis_call.lua SCRIPT KEY SLOT ARGUMENT...
--
-- SLOT is '=' and what the key holds, or '-' when it holds nothing.

local path, key, before = arg[1], arg[2], arg[3]
local slot = before:sub(1, 1) == '=' and before:sub(2) or nil
local life = slot and 'kept' or 'none'
local published = {}

local commands = {
  GET = function(at)
    assert(at == key)
    return slot or false
  end,
  SET = function(at, value, option, milliseconds)
    assert(at == key and option == 'PX', 'only SET key value PX milliseconds')
    assert(math.tointeger(tonumber(milliseconds)) > 0, 'invalid expire time')
    slot, life = value, milliseconds
    return { ok = 'OK' }
  end,
  DEL = function(at)
    assert(at == key)
    local count = slot and 1 or 0
    slot, life = nil, 'none'
    return count
  end,
  PUBLISH = function(channel, message)
    published[#published + 1] = channel .. ' ' .. message
    return 0
  end,
}

-- The servers forbid global variables: what the script may see is this, and it may change none of it.
local visible = {
  KEYS = { key },
  ARGV = table.move(arg, 4, #arg, 1, {}),
  redis = {
    call = function(name, ...)
      for _, argument in ipairs({ ... }) do
        assert(type(argument) == 'string', 'an argument that is not a string')
      end
      return assert(commands[name], 'a command that the harness does not have')(...)
    end,
  },
  string = string,
  tonumber = tonumber,
}
local globals = setmetatable({}, {
  __index = function(_, name)
    return visible[name] ~= nil and visible[name] or error('no global variable ' .. name)
  end,
  __newindex = function(_, name)
    error('sets the global variable ' .. name)
  end,
})

local answer = assert(loadfile(path, 't', globals))()
assert(math.type(answer) == 'integer', 'an answer that is no integer')
print(answer)
print(slot and '=' .. slot or '-')
print(life)
for _, message in ipairs(published) do
  print(message)
end
