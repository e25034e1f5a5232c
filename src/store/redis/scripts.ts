// What must happen in Redis as one, as Lua. The first key of each script is where it runs; the others have the same hash tag and are
// named from the prefix. Times come from Redis itself where a lease is measured, so that the clocks of replicas do not matter; only a
// test gives them. What a shard's clock lacks since it was set back, or since another server's took its place, is added (BEAT).
import { createHash } from 'node:crypto';
import { OWNER_SEARCHED } from '../store.ts';
import { ID_LENGTH, PART_ROWS } from './keys.ts';

/** A reservation that nobody has renewed for so long tells nobody anything. */
const FORGOTTEN_MS = 60_000;

/**
 * A clock that lacks more than this was set back. Less is the journey of what it was measured by; and of what a restart may be late, a fifth of
 * the delay.
 */
const SET_BACK_MS = 500;

export interface Script {
  readonly text: string;
  readonly sha: string;
}

const HEAD = `
local prefix, time, at = ARGV[1], ARGV[2], 2
local function arg() at = at + 1; return ARGV[at] end
local function exactly()
  if time ~= '' then return tonumber(time) end
  local t = redis.call('TIME')
  return t[1] * 1000 + t[2] / 1000 + (redis.call('GET', prefix .. 'ahead') or 0)
end
local function now() return math.floor(exactly()) end
local function revOf(value) return value and (string.match(value, '^(%d+) ') or '') end
local function each(list, todo) for i = 1, #list, ${ID_LENGTH} do todo(string.sub(list, i, i + ${ID_LENGTH - 1})) end end
local function remove(key, field, gone)
  local list, kept = redis.call('HGET', key, field), {}
  if not list then return end
  each(list, function(one) if not gone[one] then kept[#kept + 1] = one end end)
  if #kept == 0 then redis.call('HDEL', key, field) else redis.call('HSET', key, field, table.concat(kept)) end
end
local touched = {}
local function refresh()
  for lane in pairs(touched) do
    local head = redis.call('ZRANGE', prefix .. 'l:' .. lane, 0, 0, 'WITHSCORES')
    if head[2] then redis.call('ZADD', prefix .. 'lanes', head[2], lane) else redis.call('ZREM', prefix .. 'lanes', lane) end
  end
end
local function isAt(lane, id, score)
  local found = redis.call('ZSCORE', prefix .. 'l:' .. lane, id)
  return found and tonumber(found) == tonumber(score)
end
local function put(lane, id, score)
  redis.call('ZADD', prefix .. 'l:' .. lane, score, id)
  touched[lane] = true
end
`;

function script(body: string): Script {
  const text = HEAD + body;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/**
 * Reads the rows of a place (mode `read`), or writes, if they are as expected: `all` of them, or those to be `written`.
 * Answers `rows` and every id and value; `done` and each claimed id with the end of its lease; `duplicate`; or `taken`, the id of a new row.
 * Of what is in parts, `part`, where the walk through the room's index goes on (0: it is at its end, or there was none), the ids that were met
 * and are too many for this part, and what `rows` has. Redis promises to show whatever is in the index all the time. A `field` with few ids
 * is in no parts, and only then can `all` of it be as expected.
 */
export const UPDATE = script(`
local index, mode, where, what, once, onceAt = KEYS[1], arg(), arg(), arg(), arg(), arg()
local ids, seen = {}, {}
local function take(id) if not seen[id] then seen[id] = true; ids[#ids + 1] = id end end
local cursor = where == 'part' and what
if where == 'ids' then each(what, take)
elseif cursor then
  repeat
    local step = redis.call('HSCAN', index, cursor, 'MATCH', 'i*', 'COUNT', ${3 * PART_ROWS})
    cursor = step[1]
    for i = 2, #step[2], 2 do each(step[2][i], take) end
  until cursor == '0' or #ids >= ${PART_ROWS}
elseif where == 'newest' then
  for field in string.gmatch(what, '%S+') do each(string.sub(redis.call('HGET', index, field) or '', ${-OWNER_SEARCHED * ID_LENGTH}), take) end
else
  each(redis.call('HGET', index, what) or '', take)
  if #ids > ${PART_ROWS} then cursor = '0' end
end
local function values()
  local found = {}
  for i = 1, cursor and math.min(#ids, ${PART_ROWS}) or #ids do
    local id = ids[i]
    local value = redis.call('GET', prefix .. 'd:' .. id)
    if value then found[#found + 1] = id; found[#found + 1] = value end
  end
  return found
end
local function known(found)
  return once ~= '' and #found > 0 and redis.call('ZSCORE', prefix .. 'once', once)
end
local function answer(found)
  if cursor then return { 'part', cursor, table.concat(ids, '', ${PART_ROWS} + 1), unpack(found) } end
  table.insert(found, 1, 'rows'); return found
end

if mode == 'read' then
  local found = values()
  if known(found) then return { 'duplicate' } end
  return answer(found)
end
local expected, count = {}, tonumber(arg())
for _ = 1, count do local id = arg(); expected[id] = arg() end
for _ = 1, tonumber(arg()) do if redis.call('EXISTS', prefix .. 'd:' .. arg()) == 1 then return { 'taken' } end end
if mode == 'all' then
  local found = values()
  if known(found) then return { 'duplicate' } end
  if cursor or #found ~= count * 2 then return answer(found) end
  for i = 1, #found, 2 do if revOf(found[i + 1]) ~= expected[found[i]] then return answer(found) end end
else
  if known(ids) then return { 'duplicate' } end
  for id, rev in pairs(expected) do
    if revOf(redis.call('GET', prefix .. 'd:' .. id)) ~= rev then return answer(values()) end
  end
end
if once ~= '' and (#ids > 0 or where == 'ids') then redis.call('ZADD', prefix .. 'once', 'NX', onceAt, once) end

local room, slot, live, answered = arg(), arg(), 0, { 'done' }
for _ = 1, tonumber(arg()) do
  local id, value, before, lane, due, lease = arg(), arg(), arg(), arg(), arg(), tonumber(arg())
  local was, is, owner, endedAt, fields = arg(), arg(), arg(), arg(), tonumber(arg())
  redis.call('SET', prefix .. 'd:' .. id, value)
  if before ~= '' and before ~= lane then redis.call('ZREM', prefix .. 'l:' .. before, id); touched[before] = true end
  if lane ~= '' then
    local score = due
    if lease > 0 then
      score = now() + lease
      answered[#answered + 1] = id
      answered[#answered + 1] = tostring(score)
    end
    put(lane, id, score)
  else redis.call('ZADD', prefix .. 'ended', endedAt, id) end
  if was ~= is then
    if was ~= '' then redis.call('HINCRBY', prefix .. 'count', was, -1) end
    redis.call('HINCRBY', prefix .. 'count', is, 1)
  end
  if was == '' then redis.call('HSET', index, owner, (redis.call('HGET', index, owner) or '') .. id) end
  for _ = 1, fields do
    local field = arg()
    if before ~= '' and lane == '' then remove(index, field, { [id] = true })
    elseif lane ~= '' then redis.call('HSET', index, field, (redis.call('HGET', index, field) or '') .. id) end
  end
  if before ~= '' then live = live - 1 end
  if lane ~= '' then live = live + 1 end
end
if live ~= 0 then
  if redis.call('HINCRBY', index, 'n', live) > 0 then redis.call('ZADD', prefix .. 'rooms', slot, room)
  else redis.call('HDEL', index, 'n'); redis.call('ZREM', prefix .. 'rooms', room) end
end
refresh()
return answered
`);

/**
 * What is due and unclaimed in the shards of these prefixes, at most so many owed leaves, as many restarts, and as many others, each the
 * longest overdue first: the place of its prefix, lane, id and score. Before all of them the earliest time that is not come yet, or an empty
 * text.
 */
export const LOOK = script(`
local nowMs, limit, newest, prefixes, excluded = arg(), tonumber(arg()), arg() == 'newest', {}, {}
for i = 1, tonumber(arg()) do prefixes[i] = arg() end
for i = at + 1, #ARGV do excluded[ARGV[i]] = true end
local owed, restarts, others, coming = {}, {}, {}, ''
local kinds = { L = owed, R = restarts }
local function later(key)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. nowMs, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if found[2] and (coming == '' or tonumber(found[2]) < tonumber(coming)) then coming = found[2] end
end
local function pausedIn(key)
  local all, lanes = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) > tonumber(nowMs) then for _, class in ipairs({ 'L', 'C', 'R' }) do lanes[class .. all[i]] = true end
    else redis.call('HDEL', key, all[i]) end
  end
  return lanes
end
for place, one in ipairs(prefixes) do
  later(one .. 'lanes')
  local lanes = redis.call('ZRANGEBYSCORE', one .. 'lanes', '-inf', nowMs)
  local paused = #lanes > 0 and pausedIn(one .. 'paused') or {}
  for _, lane in ipairs(lanes) do
    later(one .. 'l:' .. lane)
    local class = string.sub(lane, 1, 1)
    if not (excluded[lane] or excluded[class] or paused[lane]) then
      local search, from, to = 'ZRANGEBYSCORE', '-inf', nowMs
      if newest and class == 'R' then search, from, to = 'ZREVRANGEBYSCORE', nowMs, '-inf' end
      local found = redis.call(search, one .. 'l:' .. lane, from, to, 'WITHSCORES', 'LIMIT', 0, limit)
      local into = kinds[class] or others
      for i = 1, #found, 2 do into[#into + 1] = { tostring(place - 1), lane, found[i], found[i + 1] } end
    end
  end
end
local out = { coming }
local function earlier(a, b) return tonumber(a[4]) < tonumber(b[4]) end
local function newer(a, b) return tonumber(a[4]) > tonumber(b[4]) end
for _, list in ipairs({ owed, restarts, others }) do
  table.sort(list, (newest and list == restarts) and newer or earlier)
  for i = 1, math.min(#list, limit) do
    for word = 1, 4 do out[#out + 1] = list[i][word] end
  end
end
return out
`);

/** Claims those that are still as they were found: id, end of the lease, row. */
export const CLAIM = script(`
local nowMs, out = now(), {}
while at < #ARGV do
  local lane, id, score, lease = arg(), arg(), arg(), tonumber(arg())
  local value, untilMs = isAt(lane, id, score) and redis.call('GET', prefix .. 'd:' .. id), nowMs + lease
  if value then
    put(lane, id, untilMs)
    for _, one in ipairs({ id, tostring(untilMs), value }) do out[#out + 1] = one end
  end
end
refresh()
return out
`);

/** Extends claims that are still held: for each the new end of its lease, or an empty text. */
export const RENEW = script(`
local nowMs, out = now(), {}
while at < #ARGV do
  local lane, id, score, rev, lease = arg(), arg(), arg(), arg(), tonumber(arg())
  local untilMs = nowMs + lease
  local held = isAt(lane, id, score) and revOf(redis.call('GET', prefix .. 'd:' .. id)) == rev
  if held then put(lane, id, untilMs) end
  out[#out + 1] = held and tostring(untilMs) or ''
end
refresh()
return out
`);

/** Gives claims back that are still held. */
export const RELEASE = script(`
while at < #ARGV do
  local lane, id, score, due = arg(), arg(), arg(), arg()
  if isAt(lane, id, score) then put(lane, id, due) end
end
refresh()
return {}
`);

/** Homeserver → until when whose the restarts are, when it refused last, its rate, and who that is. */
const RESERVATION = `
local nowMs = now()
local function reservation(value) return string.match(value or '', '^(%d+) (%d+) (%S+) (%S+)$') end
local function isTheirs(untilMs, owner, me) return owner and owner ~= me and tonumber(untilMs) > nowMs end
`;

/** Makes the restarts with a homeserver ours, if they are not another's. */
export const RESERVE = script(`
local homeserver, me, forMs, perMs, agoMs = arg(), arg(), tonumber(arg()), arg(), tonumber(arg())
${RESERVATION}
local untilMs, _, _, owner = reservation(redis.call('HGET', KEYS[1], homeserver))
if isTheirs(untilMs, owner, me) then return {} end
redis.call('HSET', KEYS[1], homeserver, (nowMs + forMs) .. ' ' .. (nowMs - agoMs) .. ' ' .. perMs .. ' ' .. me)
return { 'ours' }
`);

/** Those of others: homeserver, rate and how long ago it refused last. Old ones go. */
export const RESERVATIONS = script(`
local me, out = arg(), {}
${RESERVATION}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local untilMs, refusedAt, perMs, owner = reservation(all[i + 1])
  if isTheirs(untilMs, owner, me) then
    for _, one in ipairs({ all[i], perMs, tostring(nowMs - refusedAt) }) do out[#out + 1] = one end
  elseif not owner or tonumber(untilMs) + ${FORGOTTEN_MS} < nowMs then redis.call('HDEL', KEYS[1], all[i]) end
end
return out
`);

/** The rooms of slots, and none of those that were given out less than so long ago. */
export const ROOMS = script(`
local from, to, within, out = arg(), arg(), tonumber(arg()), {}
local nowMs, fresh = now(), {}
local found = redis.call('ZRANGEBYSCORE', KEYS[1], from, '(' .. to, 'WITHSCORES')
for i = 1, #found, 2 do
  local slot = found[i + 1]
  if fresh[slot] == nil then
    local last = within > 0 and tonumber(redis.call('HGET', prefix .. 'swept', slot) or '0') or 0
    fresh[slot] = within == 0 or nowMs - last >= within or last > nowMs
    if fresh[slot] and within > 0 then redis.call('HSET', prefix .. 'swept', slot, nowMs) end
  end
  if fresh[slot] then out[#out + 1] = found[i] end
end
return out
`);

/** Ended rows from before a moment, or the oldest of too many: id and row. */
export const OLD = script(`
local before, most, limit, out = '(' .. arg(), tonumber(arg()), tonumber(arg()), {}
local many = math.max(redis.call('ZCOUNT', KEYS[1], '-inf', before), redis.call('ZCARD', KEYS[1]) - most)
if many <= 0 then return out end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, math.min(many, limit) - 1)) do
  out[#out + 1] = id
  out[#out + 1] = redis.call('GET', prefix .. 'd:' .. id) or ''
end
return out
`);

/** Forgets ended rows: the index and the owner's field are told, once. First of all is written what a full memory does not allow. */
export const FORGET = script(`
local gone, fields = {}, {}
while at < #ARGV do
  local id, index, owner = arg(), arg(), arg()
  if redis.call('ZSCORE', KEYS[1], id) then
    gone[#gone + 1], gone[id] = id, true
    if redis.call('EXISTS', prefix .. 'd:' .. id) == 1 then redis.call('HINCRBY', prefix .. 'count', 'ended', -1) end
    redis.call('DEL', prefix .. 'd:' .. id)
    redis.call('ZREM', KEYS[1], id)
    if index ~= '' then fields[index .. owner] = { index, owner } end
  end
end
for _, field in pairs(fields) do remove(field[1], field[2], gone) end
return { tostring(#gone) }
`);

export const FORGET_ONCE = script(`
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. arg(), 'LIMIT', 0, arg())
for _, one in ipairs(old) do redis.call('ZREM', KEYS[1], one) end
return { tostring(#old) }
`);

/**
 * A write that says which data this is: the name that the first of all replicas gave it. And the time in µs, which never goes back by more
 * than a little: whoever has heard it says what it must be at least, and the shard knows what it told last, should nobody be there to say so.
 */
export const BEAT = script(`
redis.call('SETNX', KEYS[1], arg())
redis.call('INCR', prefix .. 'beat')
local least = math.max(tonumber(arg()) or 0, tonumber(redis.call('GET', prefix .. 'told') or 0))
local lacking = least - exactly()
if lacking > ${SET_BACK_MS} then redis.call('INCRBY', prefix .. 'ahead', math.floor(lacking)) end
redis.call('SET', prefix .. 'told', now())
return { redis.call('GET', KEYS[1]), string.format('%.0f', exactly() * 1000) }
`);

/** Who may use the keys: the schema, the oldest that can read it, and the name of the sealing key, which changes only for who is `alone`. */
export const MEET = script(`
local schema, least, seal, alone = tonumber(arg()), arg(), arg(), arg()
local known = redis.call('HMGET', KEYS[1], 'schema', 'least', 'seal')
if known[2] and tonumber(known[2]) > schema then return { 'newer', known[1], known[2] } end
if known[3] and known[3] ~= '' and known[3] ~= seal then
  local count = redis.call('HGETALL', prefix .. 'count')
  for i = 1, #count, 2 do if count[i] ~= 'ended' and tonumber(count[i + 1]) > 0 then return { 'sealed', known[3] } end end
end
if known[1] and known[3] ~= seal and alone == '' then return { 'others' } end
if not known[1] or tonumber(known[1]) < schema then redis.call('HSET', KEYS[1], 'schema', schema, 'least', least) end
if known[3] ~= seal then redis.call('HSET', KEYS[1], 'seal', seal) end
return { 'welcome' }
`);

export const TRACK = script(`
local room, field, value = arg(), arg(), arg()
redis.call('HSET', KEYS[1], field, value)
redis.call('SADD', prefix .. 'tracked', room)
return {}
`);

export const UNTRACK = script(`
local room, field, value = arg(), arg(), arg()
local known = redis.call('HGET', KEYS[1], field)
if known and string.match(known, '^%d+') == value then redis.call('HDEL', KEYS[1], field) end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', prefix .. 'tracked', room) end
return {}
`);

export const GIVE = script(`
local identity, most, forMs = arg(), tonumber(arg()), arg()
if redis.call('SCARD', KEYS[1]) < most then redis.call('SADD', KEYS[1], identity) end
redis.call('PEXPIRE', KEYS[1], forMs)
return {}
`);
export const GIVEN_TO = script(`return redis.call('SMEMBERS', KEYS[1])`);

/** The Matrix rooms of a shard, to one of those who ask within so long. */
export const TRACKED_ROOMS = script(`
local within, nowMs = tonumber(arg()), now()
if within > 0 then
  local sinceMs = nowMs - (redis.call('GET', prefix .. 'attended') or 0)
  if sinceMs >= 0 and sinceMs < within then return {} end
  redis.call('SET', prefix .. 'attended', nowMs, 'PX', within)
end
return redis.call('SMEMBERS', KEYS[1])
`);
export const ENTRIES = script(`return redis.call('HGETALL', KEYS[1])`);
