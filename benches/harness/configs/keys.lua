-- wrk's script for many keys: the number at the end of the path goes round from 0 to as many as the
-- argument says. The requests are made before, so that they cost the client as little as one does.
local requests, at = {}, 0

function init(args)
    local prefix = wrk.path:gsub("%d+$", "")
    for id = 0, tonumber(args[1]) - 1 do
        requests[#requests + 1] = wrk.format(nil, prefix .. id)
    end
end

function request()
    -- A stride that shares no factor with powers of ten, so that neighbours don't follow each other.
    at = (at + 7919) % #requests
    return requests[at + 1]
end
