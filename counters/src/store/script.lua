-- Counts a batch of plans, one after the other. A plan is n requests of one kind against any number of limits: all of
-- its enforced ones grant, or none is touched. Per counter: roll, settle, refund, take, lease.
--
-- KEYS      of all plans in their order; within a plan each at most once. A key is a hash: `last` (us of this server's
--           clock), `tokens` (whole), `frac` (grains), `s` (grains a token that `frac` is counted in); once it was
--           leased from: `e` (epoch of the newest grants; an epoch lasts a second), `a` (tokens out, granted in e), `b`
--           (tokens out, granted in e-1). Absent = full, nothing out.
-- ARGV[1]   every plan as doubles, low byte first; whole, below 2^53 in amount. Head of a plan:
--   purpose 0 spend, 1 look (answers the same, gives nothing back, writes nothing), 2 reset, 3 set, 4 add
--   n       how many requests of that kind wait; 0 when the call only gives back or leases
--   x       tokens to set or add (add: may be negative, -B..B)
--   keys    how many counters follow, each as:
--     cost    tokens a request, at least 1
--     burst   B, tokens the bucket holds
--     s       S, grains a token
--     g       G, grains that one tick adds
--     tick    us of a tick
--     enforce 1: must grant; 0: shadow, counts what the enforced ones granted as far as it has tokens
--     need    ms that the key must live at least, or it could be gone before the bucket is full
--     ttl     ms that it is given when it has less than `need` left
--     lease   tokens to lease if there is room
--     credits how many follow, each four numbers: 0, epoch, spent, unspent (settle) or 1, tokens, taken at (us), 0 (refund)
-- Reply     whole numbers: now (us); then for each plan: granted (0..n), counters that were garbage and are now empty
--           buckets, counters that met a clock more than a second behind; then for each of its keys: room (how many of n
--           this limit alone would grant), tokens left, frac, last; if the plan asks for any lease, also: tokens leased,
--           their epoch.
-- Needs Redis 6.2 or later. Commands: TIME HMGET EXISTS PTTL DEL HSET PEXPIRE.

local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]

local EXACT, SECOND = 9007199254740992, 1000000
local find, unpack = string.find, struct.unpack
-- A remainder is cheaper than a call of math.floor, and exact: all numbers are whole and below 2^53.
local epoch = (now - now % SECOND) / SECOND
-- The server prints a number slower than this does, so it pays for several counters.
local now_text = KEYS[2] and string.format('%.0f', now) or now

-- What few calls need, made when the first does: making functions costs, too.
local function rarely()
  -- A text that a counter may hold as a number; hexadecimal, nan, inf, signs and 2^53 are garbage.
  local function number(text)
    if not text or not find(text, '^[%d.eE+-]+$') then return nil end
    local v = tonumber(text)
    if v and v >= 0 and v < EXACT then return v end
    return nil
  end

  -- Level (grains; nothing when it is garbage), last, whether `tokens` is whole: of a counter that looks otherwise than
  -- this script leaves it.
  local function read(v, s)
    local last, tokens = number(v[1]), number(v[2])
    if not last or not tokens then return nil end
    last = last - last % 1
    if tokens % 1 ~= 0 then return (tokens - tokens % 1) * s, last, false end
    if not v[3] or number(v[4]) ~= s then return tokens * s, last, true end
    local frac = number(v[3])
    if not frac or frac % 1 ~= 0 or frac >= s then return nil end
    return tokens * s + frac, last, true
  end

  -- e, a and b; nothing when any is garbage.
  local function read_leases(v)
    local e, a, b = number(v[5]), number(v[6]), number(v[7])
    if e and a and b and e % 1 == 0 and a % 1 == 0 and b % 1 == 0 then return e, a, b end
    return nil
  end

  -- Adds to the level what time brought until `to`, up to the cap.
  local function advance(level, last, to, cap, g, tick)
    if to <= last then return level, last end
    local ticks = to - last
    ticks = (ticks - ticks % tick) / tick
    if ticks * g >= cap - level then return cap, to end
    return level + ticks * g, last + ticks * tick
  end

  -- Lets the epochs of leases pass, one boundary after the other: crediting across a boundary in one go would give the
  -- room of what expires there for the time before.
  local function roll(c, level, last, e, a, b)
    local s, g, tick = c.s, c.g, c.tick
    while e < epoch and a + b > 0 do
      local cap = math.max(0, c.burst - a - b) * s
      local boundary = (e + 1) * SECOND
      level, last = advance(math.min(level, cap), last, boundary, cap, g, tick)
      -- A begun tick that would have filled the bucket is not carried over to where there is more room.
      if b > 0 and last < boundary and level + g > cap then last = boundary end
      e, a, b = e + 1, 0, a
    end
    if e < epoch or a + b == 0 then e = epoch end
    return level, last, e, a, b
  end

  -- What is given back: amounts of leases, and tokens that nobody used.
  local function give_back(c, level, last, e, a, b, blob, at)
    local s = c.s
    for _ = 1, c.credits do
      local kind, p, q, r
      kind, p, q, r, at = unpack('<dddd', blob, at)
      if kind == 0 then
        local slot = p == e and a or p == e - 1 and b or 0
        local x = math.min(slot, q + r)
        if p == e then a = a - x elseif p == e - 1 then b = b - x end
        level = level + math.min(r, math.max(0, x - q)) * s
      else
        -- What refilled since they were taken is not given twice; `last` ahead of now was refilled up to there.
        local ticks = math.ceil(math.max(0, math.max(now, last) - q) / c.tick)
        if q <= now + SECOND and ticks * c.g < p * s then level = level + p * s - ticks * c.g end
      end
      level = math.min(level, math.max(0, c.burst - a - b) * s)
    end
    return level, a, b, at
  end

  return { read = read, read_leases = read_leases, roll = roll, give_back = give_back }
end
local rare

local blob, at, key = ARGV[1], 1, 0
local reply, r = { now }, 1
local counters = {}

while at <= #blob do
  local purpose, n, x, keys
  purpose, n, x, keys, at = unpack('<dddd', blob, at)
  local granted, corrupt, steps, leases = n, 0, 0, false

  -- Everything is read and checked before the first write: the server does not roll back.
  for j = 1, keys do
    local c = counters[j]
    if not c then c = {}; counters[j] = c end
    local cost, burst, s, g, tick, enforce
    cost, burst, s, g, tick, enforce, c.need, c.ttl, c.lease, c.credits, at = unpack('<dddddddddd', blob, at)
    c.cost, c.burst, c.s, c.g, c.tick = cost, burst, s, g, tick
    local name = KEYS[key + j]
    local ttl_left, same_s, replace, stepped, whole, leased = -1, false, false, false, true, false
    local level, last, e, a, b = nil, now, epoch, 0, 0

    local v = redis.pcall('HMGET', name, 'last', 'tokens', 'frac', 's', 'e', 'a', 'b')
    local v1, v2, v3 = v[1], v[2], v[3]
    local absent = false
    if v1 and v2 and v3 and v2 ~= '' and v3 ~= '' and #v1 == 16 and find(v1 .. v2 .. v3, '^%d+$') and tonumber(v[4]) == s then
      -- As this script leaves it.
      local tokens, frac = tonumber(v2), tonumber(v3)
      last, same_s = tonumber(v1), true
      if last < EXACT and tokens < EXACT and frac < s then level = tokens * s + frac end
    elseif v1 == nil then
      if not find(v.err, 'WRONGTYPE', 1, true) then
        redis.call('HMGET', name, 'last', 'tokens', 'frac', 's') -- raises, with this line in the message
      end
    elseif v1 or v2 or v3 or v[4] or v[5] or v[6] or v[7] or redis.call('EXISTS', name) == 1 then
      rare = rare or rarely()
      level, last, whole = rare.read(v, s)
    else
      level, last, absent = burst * s, now, true
    end
    if v[5] or v[6] or v[7] then
      rare = rare or rarely()
      e, a, b = rare.read_leases(v)
      leased = true
      if not e then level = nil end
    end
    if not level then
      level, last, e, a, b, corrupt = 0, now, epoch, 0, 0, corrupt + 1
      replace, same_s, leased = true, false, false
    elseif purpose ~= 1 and not absent then
      ttl_left = redis.call('PTTL', name)
    end

    -- The clock went back by more than is waited for: no credit, and what was leased in the old time is dropped.
    if last > now + SECOND or a + b > 0 and e * SECOND > now + SECOND then
      last, a, b, stepped, steps = now, 0, 0, true, steps + 1
    end
    if a + b > 0 then
      level, last, e, a, b = rare.roll(c, level, last, e, a, b)
    else
      e = epoch
    end
    local cap = burst - a - b
    cap = cap > 0 and cap * s or 0
    if level > cap then level = cap end
    local ticks = now - last
    if ticks > 0 then
      if tick > 1 then ticks = (ticks - ticks % tick) / tick end
      -- The product may be beyond 2^53 and rounded: it is above the difference all the same.
      if ticks * g >= cap - level then
        level, last = cap, now
      else
        level, last = level + ticks * g, last + ticks * tick
      end
    end
    -- Within a tick of full: when anything is taken or given now, the begun tick must not be credited on top.
    local near = last < now and level + g > cap

    local write = purpose ~= 1 and (replace or stepped)
    if c.credits > 0 then
      if purpose == 1 then
        at = at + 32 * c.credits
      else
        rare = rare or rarely()
        level, a, b, at = rare.give_back(c, level, last, e, a, b, blob, at)
        write = true
      end
    end
    if purpose > 1 then
      cap = math.max(0, burst - a - b)
      if purpose == 2 then level = cap * s
      elseif purpose == 3 then level = math.min(x, cap) * s
      else level = math.max(0, math.min(level + x * s, cap * s)) end
      write = true
    end

    if write and last < now and level + g > math.max(0, burst - a - b) * s then near = true end

    local tokens = (level - level % s) / s
    local room = (tokens - tokens % cost) / cost
    if room > n then room = n end
    if enforce == 1 and room < granted then granted = room end
    if c.lease > 0 then leases = true end
    if not whole then c.lease = 0 end
    c.name, c.last, c.tokens, c.frac, c.room, c.e, c.a, c.b = name, last, tokens, level - tokens * s, room, e, a, b
    c.ttl_left, c.same_s, c.replace, c.has_leases, c.near, c.write = ttl_left, same_s, replace, leased, near, write
  end

  reply[r + 1], reply[r + 2], reply[r + 3] = granted, corrupt, steps
  r = r + 3
  for j = 1, keys do
    local c = counters[j]
    local tokens, last, leased, write = c.tokens, c.last, 0, c.write
    if purpose == 0 then
      local k = granted < c.room and granted or c.room
      if k > 0 then
        tokens = tokens - k * c.cost
        write = true
      end
      if c.lease > 0 then
        local out = c.a + c.b
        leased = math.max(0, math.min(c.lease, tokens, math.floor(c.burst / 2) - out, c.burst - c.cost - out))
        if leased > 0 then
          tokens, c.a, c.has_leases, write = tokens - leased, c.a + leased, true, true
        end
      end
    end
    -- A counter to which nothing was done is a function of time: it need not be written.
    if write then
      local name = c.name
      if c.near then last = now end
      if c.replace then redis.call('DEL', name) end
      -- A number costs the server more to print than a text; `s` is there already, most often.
      local at_last = last == now and now_text or last
      if c.same_s then
        redis.call('HSET', name, 'last', at_last, 'tokens', tokens, 'frac', c.frac)
      else
        redis.call('HSET', name, 'last', at_last, 'tokens', tokens, 'frac', c.frac, 's', c.s)
      end
      if c.has_leases then redis.call('HSET', name, 'e', c.e, 'a', c.a, 'b', c.b) end
      if c.ttl_left < c.need then redis.call('PEXPIRE', name, c.ttl) end
    end
    reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = c.room, tokens, c.frac, last
    r = r + 4
    if leases then
      reply[r + 1], reply[r + 2] = leased, c.e
      r = r + 2
    end
  end
  key = key + keys
end
return reply
