"""The Lua scripts of the Redis store. Redis runs each alone, so each is a transaction."""

APPLY = """
local p = KEYS[1]
local ops = cjson.decode(ARGV[1])

for _, a in ipairs(ops.alerts) do
  local before = redis.call('HGET', p .. 'revisions', a.id)
  if (not before) or tonumber(before) ~= a.revision - 1 then return {'conflict', a.id} end
end

local function number(x) return string.format('%.0f', x) end

local function index(a, call)
  if call == 'ZADD' then
    local both = 'by:status:' .. a.status .. ':severity:' .. a.severity
    local keys = {'by:time', 'by:status:' .. a.status, 'by:rule:' .. a.rule, 'by:severity:' .. a.severity, both}
    for _, key in ipairs(keys) do
      redis.call('ZADD', p .. key, number(a.time), a.id)
    end
    if a.status ~= 'suppressed' then
      redis.call('ZADD', p .. 'told:' .. a.fingerprint, number(a.time), a.id)
      redis.call('ZADD', p .. 'made', number(a.created), a.id)
    end
  else
    redis.call('ZREM', p .. 'by:status:' .. a.status, a.id)
    redis.call('ZREM', p .. 'by:status:' .. a.status .. ':severity:' .. a.severity, a.id)
    redis.call('ZREM', p .. 'told:' .. a.fingerprint, a.id)
    redis.call('ZREM', p .. 'made', a.id)
  end
end

local function write(a)
  redis.call('HSET', p .. 'alerts', a.id, a.body)
  redis.call('HSET', p .. 'revisions', a.id, number(a.revision))
  index(a, 'ZADD')
end

local function put_task(t)
  local old = redis.call('HGET', p .. 'lanes', t[1])
  if old and old ~= t[2] then redis.call('ZREM', p .. 'due:' .. old, t[1]) end
  redis.call('HSET', p .. 'tasks', t[1], t[4])
  redis.call('HSET', p .. 'lanes', t[1], t[2])
  redis.call('HDEL', p .. 'leases', t[1])
  redis.call('ZADD', p .. 'due', number(t[3]), t[1])
  redis.call('ZADD', p .. 'due:' .. t[2], number(t[3]), t[1])
end

local function put_note(n)
  redis.call('HSET', p .. 'notes:' .. n[1], n[2], n[3])
  if n[4] ~= '' then
    redis.call('SADD', p .. 'waiting:' .. n[4], n[1])
  elseif n[5] ~= '' then
    local others = 0
    for _, body in ipairs(redis.call('HVALS', p .. 'notes:' .. n[1])) do
      local note = cjson.decode(body)
      if note.group == n[5] and note.state == 'waiting' then others = others + 1 end
    end
    if others == 0 then redis.call('SREM', p .. 'waiting:' .. n[5], n[1]) end
  end
end

local made = {'made'}
for _, a in ipairs(ops.new) do
  if redis.call('HEXISTS', p .. 'alerts', a.id) == 0 then
    write(a)
    for _, e in ipairs(a.entries) do redis.call('RPUSH', p .. 'entries:' .. a.id, e) end
    for _, t in ipairs(a.tasks) do put_task(t) end
    for _, n in ipairs(a.notes) do put_note(n) end
    made[#made + 1] = a.id
  end
end
for _, a in ipairs(ops.alerts) do
  local old = cjson.decode(redis.call('HGET', p .. 'alerts', a.id))
  index({id = a.id, status = old.status, severity = old.severity, fingerprint = old.fingerprint}, 'ZREM')
  write(a)
end
for _, e in ipairs(ops.entries) do redis.call('RPUSH', p .. 'entries:' .. e[1], e[2]) end
for _, t in ipairs(ops.tasks) do put_task(t) end
for _, t in ipairs(ops.first) do
  if redis.call('HEXISTS', p .. 'tasks', t[1]) == 0 then put_task(t) end
end
for _, id in ipairs(ops.done) do
  local lane = redis.call('HGET', p .. 'lanes', id)
  if lane then
    redis.call('ZREM', p .. 'due', id)
    redis.call('ZREM', p .. 'due:' .. lane, id)
    redis.call('HDEL', p .. 'tasks', id)
    redis.call('HDEL', p .. 'lanes', id)
    redis.call('HDEL', p .. 'leases', id)
  end
end
for _, n in ipairs(ops.notes) do put_note(n) end
for _, d in ipairs(ops.put) do redis.call('HSET', p .. 'documents', d[1], d[2]) end
for _, name in ipairs(ops.drop) do redis.call('HDEL', p .. 'documents', name) end
local function changed(id)
  redis.call('ZADD', p .. 'changed', number(redis.call('INCR', p .. 'changes')), id)
end
for i = 2, #made do changed(made[i]) end
for _, id in ipairs(ops.touched) do changed(id) end
if #made + #ops.touched > 1 then redis.call('PUBLISH', p .. 'news', '') end
if #ops.put + #ops.drop > 0 then redis.call('INCR', p .. 'version') end
return made
"""
"""KEYS: the prefix. ARGV: the changes as JSON. Returns {'made', id, …}, or {'conflict', id} with nothing written."""

CLAIM = """
local p = KEYS[1]
local found = {}
local offset = 0
while #found < tonumber(ARGV[4]) do
  local ids = redis.call('ZRANGEBYSCORE', p .. ARGV[1], '-inf', ARGV[2], 'LIMIT', offset, 100)
  if #ids == 0 then break end
  offset = offset + #ids
  for _, id in ipairs(ids) do
    local lease = redis.call('HGET', p .. 'leases', id)
    if ((not lease) or tonumber(lease) <= tonumber(ARGV[2])) and #found < tonumber(ARGV[4]) then
      redis.call('HSET', p .. 'leases', id, ARGV[3])
      found[#found + 1] = redis.call('HGET', p .. 'tasks', id)
    end
  end
end
return found
"""
"""KEYS: the prefix. ARGV: the index, now, until when, how many. Returns the tasks that were taken."""

RENEW = """
local p = KEYS[1]
local found = {}
for i = 2, #ARGV, 2 do
  if redis.call('HGET', p .. 'leases', ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', p .. 'leases', ARGV[i], ARGV[1])
    found[#found + 1] = ARGV[i]
  end
end
return found
"""
"""KEYS: the prefix. ARGV: until when, then task id and the lease it is to have now, by turns. Returns the ids whose
lease was prolonged."""
