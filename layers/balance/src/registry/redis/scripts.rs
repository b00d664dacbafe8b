//! The Lua scripts: what must happen in one step on the server.
//!
//! What is known of a service lies at three keys of one hash slot: a sorted set of ids by when they
//! expire (milliseconds, by the server's clock), a hash of their records, and the origin, which is
//! another one when the data were lost and begun anew. They are kept for twice the longest time to
//! live, so that nothing is left of a service that is no more.

use fred::types::scripts::Script;

/// What both that write begin with. KEYS: expiry, records, origin. ARGV: id, holder.
const BEGIN: &str = r"
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local record = redis.call('HGET', KEYS[2], ARGV[1])
local until_ = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
local lives = record and until_ > now
local is_own = record and string.sub(record, 1, #ARGV[2]) == ARGV[2]
";

/// More ARGV: record, time to live (ms), 'takes' or 'renews', channel, the most instances. Returns 0
/// if it is another one's, 1 if it is done, 2 if there are too many.
const HEARTBEAT: &str = r"
if ARGV[5] == 'renews' and lives and not is_own then return 0 end
if not lives and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[7]) then
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
  for _, id in ipairs(gone) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  end
  if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[7]) then return 2 end
end
local ttl = tonumber(ARGV[4])
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
if record ~= ARGV[3] then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
redis.call('SET', KEYS[3], string.format('%.0f', now) .. ARGV[2], 'NX')
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ttl * 2 then redis.call('PEXPIRE', key, ttl * 2) end
end
if record ~= ARGV[3] or not lives then redis.call('PUBLISH', ARGV[6], '+' .. ARGV[1]) end
return 1
";

/// More ARGV: channel. Returns 1 if it was the holder's.
const DEREGISTER: &str = r"
if not is_own then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[3], '-' .. ARGV[1])
return lives and 1 or 0
";

/// KEYS: expiry, records, origin. ARGV: channel, the most instances, the most bytes of one, the most
/// bytes of all. Drops what has expired, and lets those who watch know. Returns the origin, the time,
/// how many were left out, and of each that lives its id, when it expires, and its record.
const HEALTHY: &str = r"
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
for _, id in ipairs(gone) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
if #gone > 0 then redis.call('PUBLISH', ARGV[1], '~') end
local most, left_out, bytes = tonumber(ARGV[2]), 0, 0
local count = redis.call('ZCARD', KEYS[1])
if count > most then left_out = count - most end
local out = {redis.call('GET', KEYS[3]) or '', string.format('%.0f', now), ''}
for from = 0, math.min(count, most) - 1, 500 do
  local to = math.min(from + 500, most) - 1
  local found = redis.call('ZRANGE', KEYS[1], from, to, 'WITHSCORES')
  local ids = {}
  for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
  local records = redis.call('HMGET', KEYS[2], unpack(ids))
  for i, id in ipairs(ids) do
    local record = records[i]
    if record and #record + #id <= tonumber(ARGV[3]) and bytes + #record + #id <= tonumber(ARGV[4]) then
      bytes = bytes + #record + #id
      out[#out + 1] = id
      out[#out + 1] = string.format('%.0f', tonumber(found[2 * i]))
      out[#out + 1] = record
    else
      left_out = left_out + 1
    end
  end
end
out[3] = tostring(left_out)
return out
";

/// The scripts, each with its digest.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    pub(super) heartbeat: Script,
    pub(super) deregister: Script,
    pub(super) healthy: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            heartbeat: Script::from_lua(format!("{BEGIN}{HEARTBEAT}")),
            deregister: Script::from_lua(format!("{BEGIN}{DEREGISTER}")),
            healthy: Script::from_lua(HEALTHY),
        }
    }
}
