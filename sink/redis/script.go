package redis

import goredis "github.com/redis/go-redis/v9"

// The guarded write of some entities of one group version; on a cluster of one. All of it is atomic: a reader sees all fields of a
// version or none.
//
//	KEYS      the entities' hashes
//	ARGV      partition, TTL in ms (0: never expires), number of features, their names, then for each entity:
//	          _v, _t, _u, the places of null features (from 1, joined by ','), the values of the others
//
// It answers one digit an entity, an Outcome. Field names are sent once: each argument becomes a Lua string, which costs more than filling a
// table here (name–value pairs that unpack could take from ARGV as they are were 10 % slower; one MessagePack argument an entity gained
// nothing). Entities with the same nulls, of which windows leave few kinds, share a table with the names in place. HDEL looks for each of
// its fields, so it is called only where the hash holds more fields than were set. Versions are fixed-width text, so that Lua's comparison
// by the server's locale is right (Check asks the server).
var writeScript = goredis.NewScript(`
local A, K, call = ARGV, KEYS, redis.call
local partition, ttl, features = A[1], A[2], tonumber(A[3])
local expire_at
if ttl ~= '0' then
  local now = call('TIME')
  expire_at = string.format('%.0f', now[1]*1000 + math.floor(now[2]/1000) + ttl)
end

local shapes = {}
local function shape(nulls)
  local set, gone, null = {'_v', '', '_t', '', '_u', '', '_p', partition}, {}, {}
  for place in string.gmatch(nulls, '%d+') do null[tonumber(place)] = true end
  local last = 8
  for f = 1, features do
    if null[f] then gone[#gone+1] = A[f+3]
    else set[last+1], last = A[f+3], last+2 end
  end
  shapes[nulls] = {set = set, last = last, gone = gone}
  return shapes[nulls]
end

local a, out = features + 4, {}
for i = 1, #K do
  local key, version, nulls = K[i], A[a], A[a+3]
  local s = shapes[nulls] or shape(nulls)
  local set, last = s.set, s.last
  local stored, outcome = call('HGET', key, '_v'), 0
  if stored then
    if call('HGET', key, '_p') ~= partition then outcome = 3
    elseif stored > version then outcome = 2
    elseif stored == version then outcome = 1 end
  end
  if outcome < 2 then
    set[2], set[4], set[6] = version, A[a+1], A[a+2]
    local v = a + 4
    for n = 10, last, 2 do set[n], v = A[v], v+1 end
    for n = 1, last, 1000 do call('HSET', key, unpack(set, n, math.min(n+999, last))) end
    local gone = s.gone
    if #gone > 0 and call('HLEN', key)*2 > last then
      for n = 1, #gone, 1000 do call('HDEL', key, unpack(gone, n, math.min(n+999, #gone))) end
    end
    if expire_at then call('PEXPIREAT', key, expire_at) elseif stored then call('PERSIST', key) end
  end
  out[i] = outcome
  a = a + last/2
end
return table.concat(out)
`)

// The guarded write of a shard's progress: refused (0) where a later generation, or a later manifest of the same one, has been told.
//
//	KEYS[1]   the progress hash
//	ARGV      generation, seq, then the fields and values
var progressScript = goredis.NewScript(`
local stored = redis.call('HMGET', KEYS[1], 'generation', 'seq', 'wall')
if stored[1] and stored[2] then
  local g, s = tonumber(stored[1]), tonumber(stored[2])
  if g > tonumber(ARGV[1]) or g == tonumber(ARGV[1]) and s > tonumber(ARGV[2]) then return 0 end
end
local after = tonumber(ARGV[3])
if after > 0 and (not stored[3] or tonumber(stored[3]) < after) then return 2 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
return 1
`)

// The server's collation orders versions' texts as their bytes.
const collationScript = `
local t = {'0000002a------------------ffffffffffff', '0000002a-0000000000000000-000000000000', '0000002a-0000000000000000-0000000000a9',
  '0000002a-000000000000000a-000000000000', '0000002b------------------000000000000', '0000009f-0000000000000000-000000000000', '000000a0------------------000000000000'}
for i = 2, #t do if not (t[i-1] < t[i]) or t[i] < t[i-1] then return 0 end end
return 1
`
