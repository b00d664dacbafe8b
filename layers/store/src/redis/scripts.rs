//! The Lua scripts: what must happen in one step on the server.
//!
//! The epoch clock is the key `{prefix}:epoch`, "last since evicted": the last epoch drawn; since when
//! no tag's key can have been lost; and how many keys the server had evicted then, by which it is
//! noticed that some may have been. A tag is "hard soft touched". The clock and all tags share one
//! hash slot (the braces are literal), so that the scripts may touch several of them on a Cluster;
//! entries are spread over all slots.
//!
//! An epoch is the server's time in microseconds, or more than the last, or more than the caller knows
//! of, whichever is highest: it grows even if the clock key is lost or the clock steps back. How much
//! more is left to chance where the server's clock is far behind: one that has lost the last epochs in a
//! failover would otherwise draw the very same again, for something else. Lua's numbers hold integers
//! up to 2^53 exactly, which microseconds reach in the year 2255. What is more than a year ahead of the
//! server is no epoch: it would be the last one ever.
//!
//! A removal, and whatever else is announced of a single key, gives the bucket of that key a new removal
//! epoch: the server's time, or more than the last. The bucket's key is in the same slot as the
//! entry, and both are written by one script, which Redis replicates and persists as a whole: so a
//! server that lacks the one lacks the other, too. These keys don't expire: a lost one costs each node
//! what its first tier holds of the bucket.
//!
//! Whatever else lies at one of the keys counts as nothing, and is replaced.
//!
//! A server that is out of memory refuses SET, but no script that has begun to write. So what removes
//! something begins with PERSIST, which takes no memory. Not with DEL: a key that isn't there any more
//! can't be written while its slot is on its way to another primary.

use fred::types::Value;
use fred::types::scripts::Script;

/// A script may look at keys of all slots that its server has, also when memory is short: what it writes
/// is next to nothing.
const ANYWHERE: &str = "#!lua flags=allow-cross-slot-keys,allow-oom";

/// Reading and writing epochs.
const EPOCHS: &str = r"
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000000 + tonumber(now[2])
local horizon = now + 366 * 24 * 3600 * 1000000
local function read(key, pattern)
  local value = redis.pcall('GET', key)
  local found = {string.match(type(value) == 'string' and value or '', pattern)}
  for i, n in ipairs(found) do
    found[i] = tonumber(n)
    if found[i] > horizon then return {} end
  end
  return found
end
local function text(n) return string.format('%.0f', n) end
-- ARGV ends with a number drawn at random, where epochs are drawn.
local function after(last, span)
  if last < now then return now end
  -- Two that are drawn at the same time need not be far apart, nor need those that are a day ahead: else
  -- a busy clock would run away.
  if last - now < 1000000 or last - now > 86400000000 then return last + 1 end
  return last + 1 + tonumber(ARGV[#ARGV]) % span
end
local function packed(n)
  return struct.pack('<I4I4', n % 4294967296, math.floor(n / 4294967296))
end
";

/// The epochs of tags.
const DRAW: &str = r"
local function tag(key)
  local found = read(key, '^(%d+) (%d+) (%d+)$')
  return found[1] or 0, found[2] or 0, found[3] or 0
end
local function set(key, hard, soft, touched, life)
  redis.call('SET', key, text(hard) .. ' ' .. text(soft) .. ' ' .. text(touched), 'PX', life)
end
local function evictions()
  local stats = redis.pcall('INFO', 'stats')
  return tonumber(type(stats) == 'string' and string.match(stats, 'evicted_keys:(%d+)') or nil)
end
local function clock(key) return unpack(read(key, '^(%d+) (%d+) (%d+)$')) end
local function wind(key, last, since, evicted)
  redis.call('SET', key, text(last) .. ' ' .. text(since) .. ' ' .. text(evicted))
end
local known = tonumber(ARGV[1])
if known > horizon then known = 0 end
local function draw(floor)
  local last, since, evicted = clock(KEYS[1])
  local epoch = after(math.max(last or 0, floor), 64)
  -- Without a clock (first use, flushed, evicted) nobody knows what was lost with it.
  return epoch, since or epoch, evicted or evictions() or 0
end
";

/// KEYS: clock, tags. ARGV: highest epoch known, tag lifetime (ms), random number.
/// Returns for each tag: hard, soft, touched.
const RESOLVE: &str = r"
local last, since, evicted = clock(KEYS[1])
if last and last < known then
  -- A failover set it back, or the caller is new. The callers tell it how far it was; also one that is
  -- out of memory, which could not be read otherwise.
  redis.call('PERSIST', KEYS[1])
  wind(KEYS[1], known, since, evicted)
end
local out, fresh = {}, nil
for i = 2, #KEYS do
  local hard, soft, touched = tag(KEYS[i])
  if hard > 0 then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  else
    if not fresh then
      fresh, since, evicted = draw(known)
      local now_evicted = evictions()
      if now_evicted ~= evicted then
        since, evicted = fresh, now_evicted or 0
      end
      wind(KEYS[1], fresh, since, evicted)
    end
    -- An invalidation would have left a key, which would be there, unless it was lost or has
    -- outlived its use.
    hard, soft, touched = fresh, fresh, math.max(since, now - tonumber(ARGV[2]) * 1000)
    set(KEYS[i], hard, soft, touched, ARGV[2])
  end
  for _, n in ipairs({hard, soft, touched}) do out[#out + 1] = text(n) end
end
return out
";

/// KEYS: clock, tag. ARGV: highest epoch known, tag lifetime (ms), 'hard' or 'soft', channel, the
/// announcement before the epoch, the announcement after it, random number. Returns the epoch.
const INVALIDATE: &str = r"
local hard, soft = tag(KEYS[2])
local epoch, since, evicted = draw(math.max(known, hard, soft))
if ARGV[3] == 'hard' or hard == 0 then hard = epoch end
redis.call('PERSIST', KEYS[2])
wind(KEYS[1], epoch, since, evicted)
set(KEYS[2], hard, epoch, epoch, ARGV[2])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. packed(epoch) .. ARGV[6])
return text(epoch)
";

/// KEYS: entry. ARGV: frame, lifetime (ms), 'always' or 'if', expected beginning, the time by which it
/// must arrive (empty: any). Goes on if it was stored; else returns 0, or 2 if it was late.
const STORE: &str = r"
if #ARGV[5] > 0 then
  local now = redis.call('TIME')
  if tonumber(now[1]) * 1000000 + tonumber(now[2]) > tonumber(ARGV[5]) then return 2 end
end
if ARGV[3] == 'if' then
  local expected = ARGV[4]
  if #expected == 0 then
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  else
    local there = redis.pcall('GETRANGE', KEYS[1], 0, #expected - 1)
    -- What is no string was read as '?'.
    if type(there) ~= 'string' then there = '?' end
    if there ~= expected then return 0 end
  end
end
-- As short as a tombstone is no value.
if #ARGV[1] < 44 then redis.call('PERSIST', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
";

/// Gives the bucket at `bucket` a new epoch, and announces it.
const ANNOUNCE: &str = r"
local function announce(bucket, channel, prefix, key)
  local before = read(bucket, '^(%d+)$')[1] or 0
  local epoch = after(before, 65536)
  redis.call('PERSIST', bucket)
  redis.call('SET', bucket, text(epoch))
  redis.call('PUBLISH', channel, prefix .. packed(epoch) .. packed(before) .. key)
end
";

/// KEYS: entry, its bucket. ARGV: as [`STORE`], channel, what the announcement begins with, where in
/// the entry's key the store's own begins, random number.
const REPLACE: &str = r"
announce(KEYS[2], ARGV[6], ARGV[7], string.sub(KEYS[1], tonumber(ARGV[8])))
return 1
";

/// KEYS: bucket. ARGV: channel, what the announcement begins with, key, random number.
const TOUCH: &str = r"
announce(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
return 1
";

/// ARGV: keys of buckets, also of several slots. Returns their epochs, 8 bytes each; 0 for one that
/// isn't in this server's charge.
const READ: &str = r"
local out = {}
for i, key in ipairs(ARGV) do
  local epoch = read(key, '^(%d+)$')[1]
  if not epoch then
    local done = redis.pcall('SET', key, text(now))
    epoch = done.ok and now or 0
  end
  out[i] = packed(epoch)
end
return table.concat(out)
";

/// Where in what lies at a key the token and, behind it, the lease are: see the frame.
const FIELDS: &str = r"
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000000 + tonumber(now[2])
local there = redis.pcall('GETRANGE', KEYS[1], 0, 43)
-- What is no string was read as '?'.
if type(there) ~= 'string' then there = '?' end
local at = nil
if #there == 44 and string.sub(there, 1, 3) == 'tk\2' then at = 20 end
if #there == 18 and string.sub(there, 1, 2) == 'tl' then at = 2 end
local passing = 2147483648
local function lease(till, passes)
  local low, high = till % 4294967296, math.floor(till / 4294967296)
  return struct.pack('<I4I4', low, high + (passes and passing or 0))
end
";

/// KEYS: entry. ARGV: expected beginning, token, span (us), how long to keep it at the least (ms), the
/// time by which it must arrive, the longest span (us). Returns what came of it (0: another thing lies
/// there, 1: granted, 2: another has it, 3: nobody need wait, 4: late), for how many more
/// microseconds, and with what it begins.
const LEASE: &str = r"
if now > tonumber(ARGV[5]) then return {4, 0, ''} end
if at then
  local low, high = struct.unpack('<I4I4', there, at + 9)
  local passes = high >= passing
  if passes then high = high - passing end
  local left = high * 4294967296 + low - now
  -- What is longer than any is none: the clock was set back, or the bytes are no one's.
  if left > 0 and left <= tonumber(ARGV[6]) then
    return {passes and 3 or 2, left, string.sub(there, 1, at + 8)}
  end
end
local expected = ARGV[1]
if (#expected == 0) ~= (#there == 0) or string.sub(there, 1, #expected) ~= expected then
  return {0, 0, ''}
end
local fields = ARGV[2] .. lease(now + tonumber(ARGV[3]))
local left, keep = redis.call('PTTL', KEYS[1]), tonumber(ARGV[4])
-- What is written as the double it is here may have an exponent.
local longest = left < keep and ARGV[4] or string.format('%.0f', left)
if at == 20 then
  redis.call('SETRANGE', KEYS[1], at, fields)
  -- What is fetched is stored only where this still lies.
  if left >= 0 and left < keep then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
  return {1, 0, string.sub(there, 1, at) .. ARGV[2]}
end
redis.call('SET', KEYS[1], 'tl' .. fields, 'PX', longest)
return {1, 0, 'tl' .. ARGV[2]}
";

/// KEYS: entry. ARGV: token, span (us; 0: none), 'pass' if nobody need wait, the time by which it must
/// arrive. Returns 1 if the lease was still the one with that token.
const UPDATE_LEASE: &str = r"
if not at or string.sub(there, at + 1, at + 8) ~= ARGV[1] then return 0 end
if now > tonumber(ARGV[4]) then return 2 end
local span = tonumber(ARGV[2])
redis.call('SETRANGE', KEYS[1], at + 8, lease(span > 0 and now + span or 0, ARGV[3] == 'pass'))
return 1
";

/// ARGV: channel, message. Returns the time, and what names the history of the data: a replica that
/// takes over begins a new one, as does a server that lost its data.
const BEAT: &str = r"
redis.call('PUBLISH', ARGV[1], ARGV[2])
local info = redis.pcall('INFO', 'replication')
local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
local now = redis.call('TIME')
return {now[1], now[2], history}
";

/// What the scripts that draw epochs are given: theirs, made from the same seed each time, is no chance.
/// As long as any other, so that what is sent is of one size.
pub(super) fn random() -> Value {
    format!("{:05}", fastrand::u16(..)).into()
}

/// The scripts, each with its digest.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    pub(super) resolve: Script,
    pub(super) invalidate: Script,
    pub(super) put: Script,
    pub(super) replace: Script,
    pub(super) touch: Script,
    pub(super) epochs: Script,
    pub(super) lease: Script,
    pub(super) update_lease: Script,
    pub(super) beat: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            resolve: Script::from_lua(format!("{EPOCHS}{DRAW}{RESOLVE}")),
            invalidate: Script::from_lua(format!("{EPOCHS}{DRAW}{INVALIDATE}")),
            put: Script::from_lua(format!("{STORE}return 1")),
            replace: Script::from_lua(format!("{EPOCHS}{ANNOUNCE}{STORE}{REPLACE}")),
            touch: Script::from_lua(format!("{EPOCHS}{ANNOUNCE}{TOUCH}")),
            epochs: Script::from_lua(format!("{ANYWHERE}{EPOCHS}{READ}")),
            lease: Script::from_lua(format!("{FIELDS}{LEASE}")),
            update_lease: Script::from_lua(format!("{FIELDS}{UPDATE_LEASE}")),
            beat: Script::from_lua(BEAT),
        }
    }
}
