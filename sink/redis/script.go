package redis

import goredis "github.com/redis/go-redis/v9"

// The guarded write of some entities of one group version; on a cluster of one. All of it is atomic: a reader sees all fields of a
// version or none.
//
//	KEYS      the entities' hashes
//	ARGV      partition, TTL in ms (0: never expires), number of features, their names, then for each entity:
//	          _v, _t, _u, the number n of null features, their n places (from 1, ascending), the values of the others
//
// It answers one digit an entity, an Outcome. Field names are sent once: each argument becomes a Lua string, which costs more than filling a
// table here (name–value pairs that unpack could take from ARGV as they are were 10 % slower; one MessagePack argument an entity gained
// nothing). HDEL looks for each of its fields, so it is called only where the hash holds more fields than were set. Versions are fixed-width
// text, so that Lua's comparison by the server's locale is right (Check asks the server).
var writeScript = goredis.NewScript(`
local A, K, call = ARGV, KEYS, redis.call
local partition, ttl, features = A[1], A[2], tonumber(A[3])
local full, part, gone, out = {'_v', '', '_t', '', '_u', '', '_p', partition}, {'_v', '', '_t', '', '_u', '', '_p', partition}, {}, {}
for f = 1, features do full[2*f+7] = A[f+3] end
local expire_at
if ttl ~= '0' then
  local now = call('TIME')
  expire_at = string.format('%.0f', now[1]*1000 + math.floor(now[2]/1000) + ttl)
end
local a = features + 4
for i = 1, #K do
  local key, version, nulls = K[i], A[a], tonumber(A[a+3])
  local stored, outcome = call('HGET', key, '_v'), 0
  if stored then
    if call('HGET', key, '_p') ~= partition then outcome = 3
    elseif stored > version then outcome = 2
    elseif stored == version then outcome = 1 end
  end
  if outcome < 2 then
    local set, last, v = full, 2*features + 8, a + 4
    if nulls == 0 then
      for f = 0, features-1 do full[2*f+10] = A[v+f] end
    else
      set, last, v = part, 8, v + nulls
      local from = 1
      for n = 1, nulls do
        local null = tonumber(A[a+3+n])
        for f = from, null-1 do part[last+1], part[last+2], last, v = A[f+3], A[v], last+2, v+1 end
        gone[n], from = A[null+3], null+1
      end
      for f = from, features do part[last+1], part[last+2], last, v = A[f+3], A[v], last+2, v+1 end
    end
    set[2], set[4], set[6] = version, A[a+1], A[a+2]
    for n = 1, last, 1000 do call('HSET', key, unpack(set, n, math.min(n+999, last))) end
    if nulls > 0 and call('HLEN', key)*2 > last then
      for n = 1, nulls, 1000 do call('HDEL', key, unpack(gone, n, math.min(n+999, nulls))) end
    end
    if expire_at then call('PEXPIREAT', key, expire_at) elseif stored then call('PERSIST', key) end
  end
  out[i] = outcome
  a = a + 4 + features
end
return table.concat(out)
`)

// The guarded write of a shard's progress: refused (0) where a later generation, or a later manifest of the same one, has been told.
//
//	KEYS[1]   the progress hash
//	ARGV      generation, seq, then the fields and values
var progressScript = goredis.NewScript(`
local stored = redis.call('HMGET', KEYS[1], 'generation', 'seq')
if stored[1] and stored[2] then
  local g, s = tonumber(stored[1]), tonumber(stored[2])
  if g > tonumber(ARGV[1]) or g == tonumber(ARGV[1]) and s > tonumber(ARGV[2]) then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
`)

// The server's collation orders versions' texts as their bytes.
const collationScript = `
local t = {'0000002a------------------ffffffffffff', '0000002a-0000000000000000-000000000000', '0000002a-0000000000000000-0000000000a9',
  '0000002a-000000000000000a-000000000000', '0000002b------------------000000000000', '0000009f-0000000000000000-000000000000', '000000a0------------------000000000000'}
for i = 2, #t do if not (t[i-1] < t[i]) or t[i] < t[i-1] then return 0 end end
return 1
`
