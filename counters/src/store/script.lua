-- Counts one request, or n alike, against any number of limits: all of the enforced ones grant it, or none is touched.
--
-- KEYS      one per limit, each at most once. A hash: `last` (us of this server's clock), `tokens` (whole),
--           `frac` (grains), `s` (grains a token that `frac` is counted in). Absent = full.
-- ARGV[1]   spend | look. `look` answers the same and writes nothing.
-- ARGV[2]   n, how many requests of that kind wait; at least 1.
-- then for each key eight numbers, all whole and below 2^53:
--   cost    tokens a request, 1..burst
--   burst   B, tokens the bucket holds
--   s       S, grains a token
--   g       G, grains that one tick adds
--   tick    us of a tick
--   enforce 1: must grant; 0: shadow, counts what the enforced ones granted as far as it has tokens
--   need    ms that the key must live at least, or it could be gone before the bucket is full
--   ttl     ms that it is given when it has less than `need` left
-- Reply     whole numbers: granted (0..n), now (us), counters that were garbage and are now empty buckets,
--           counters that met a clock more than a second behind; then for each key:
--           room (how many of n this limit alone would grant), tokens left (whole), us until `cost` tokens are there,
--           us until full.
-- Needs Redis 6.2 or later. Commands: TIME HMGET EXISTS PTTL DEL HSET PEXPIRE.

local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]

local floor, min = math.floor, math.min
local spend = ARGV[1] == 'spend'
local n = tonumber(ARGV[2])

-- A text that a counter may hold as a number; hexadecimal, nan, inf, signs and 2^53 are garbage.
local function number(text)
  if not text or not string.find(text, '^[%d.eE+-]+$') then return nil end
  local v = tonumber(text)
  if v and v >= 0 and v < 9007199254740992 then return v end
  return nil
end

-- last and level (grains) of a counter, or nothing when it is garbage.
local function parse(v, s)
  local last, tokens = number(v[1]), number(v[2])
  if not last or not tokens then return nil end
  local whole = floor(tokens)
  if whole ~= tokens or not v[3] or number(v[4]) ~= s then return floor(last), whole, 0 end
  local frac = number(v[3])
  if not frac or frac ~= floor(frac) or frac >= s then return nil end
  return floor(last), whole, frac
end

-- Everything is read and checked before the first write: the server does not roll back.
local granted, corrupt, steps = n, 0, 0
local counters = {}
for i = 1, #KEYS do
  local a = 2 + (i - 1) * 8
  local c = {
    cost = tonumber(ARGV[a + 1]), burst = tonumber(ARGV[a + 2]), s = tonumber(ARGV[a + 3]),
    g = tonumber(ARGV[a + 4]), tick = tonumber(ARGV[a + 5]), enforce = ARGV[a + 6] == '1', ttl_left = -1,
  }
  local v = redis.pcall('HMGET', KEYS[i], 'last', 'tokens', 'frac', 's')
  local full = c.burst * c.s
  local level
  if v.err and not string.find(v.err, 'WRONGTYPE', 1, true) then
    redis.call('HMGET', KEYS[i], 'last', 'tokens', 'frac', 's') -- raises, with this line in the message
  end
  if not v.err and not (v[1] or v[2] or v[3] or v[4]) and redis.call('EXISTS', KEYS[i]) == 0 then
    c.last, level = now, full
  else
    local last, tokens, frac
    if not v.err then last, tokens, frac = parse(v, c.s) end
    if last then
      c.last = last
      level = tokens >= c.burst and full or tokens * c.s + frac
      if spend then c.ttl_left = redis.call('PTTL', KEYS[i]) end
    else
      c.last, level, c.replace, corrupt = now, 0, true, corrupt + 1
    end
  end
  if now < c.last then
    if c.last - now > 1000000 then c.last, c.stepped, steps = now, true, steps + 1 end
  else
    local ticks = floor((now - c.last) / c.tick)
    if ticks >= floor((full - level + c.g - 1) / c.g) then
      c.last, level = now, full
    else
      c.last, level = c.last + ticks * c.tick, level + ticks * c.g
    end
  end
  c.tokens = floor(level / c.s)
  c.frac = level - c.tokens * c.s
  c.room = min(n, floor(c.tokens / c.cost))
  if c.enforce then granted = min(granted, c.room) end
  counters[i] = c
end

local reply = { granted, now, corrupt, steps }
for i = 1, #KEYS do
  local c = counters[i]
  if spend then
    local k = min(granted, c.room)
    c.tokens = c.tokens - k * c.cost
    -- A bucket of which nothing was taken is a function of time: it need not be written.
    if k > 0 or c.replace or c.stepped then
      local a = 2 + (i - 1) * 8
      if c.replace then redis.call('DEL', KEYS[i]) end
      redis.call('HSET', KEYS[i], 'last', c.last, 'tokens', c.tokens, 'frac', c.frac, 's', c.s)
      if c.ttl_left < tonumber(ARGV[a + 7]) then redis.call('PEXPIRE', KEYS[i], ARGV[a + 8]) end
    end
  end
  local level = c.tokens * c.s + c.frac
  local function wait(tokens)
    if level >= tokens * c.s then return 0 end
    return math.max(0, c.last + floor((tokens * c.s - level + c.g - 1) / c.g) * c.tick - now)
  end
  local p = #reply
  reply[p + 1], reply[p + 2], reply[p + 3], reply[p + 4] = c.room, c.tokens, wait(min(c.cost, c.burst)), wait(c.burst)
end
return reply
