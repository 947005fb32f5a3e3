-- One request, sent again and again: POST /v1/tokens/access with a bearer token.
-- The file named in the first argument has the bearer token in its first line
-- and the body in its second, so that neither shows in a list of processes.

function init(arguments)
  local file = assert(io.open(arguments[1], "r"))
  local token = assert(file:read("*l"))
  local body = assert(file:read("*l"))
  file:close()
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer " .. token
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = body
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
