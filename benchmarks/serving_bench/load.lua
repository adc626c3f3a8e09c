-- Sends the bodies of a file, one a line, in their order; each thread begins at another place. Tells the run as JSON.
-- Arguments: the file, the first place, how many threads there are.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  requests = {}
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
  place = tonumber(args[2]) + number * math.floor(#requests / tonumber(args[3]))
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local errors = summary.errors
  local form = '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, '
    .. '"failures": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n'
  io.write(string.format(form, summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
