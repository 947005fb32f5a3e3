#!/bin/sh
# Fetches a token from the broker in this pod:
#   fetch.sh USER TOKEN APP_NAME PURPOSE
# Prints the token's value, or the broker's reason on standard error.
# Needs curl, and python3 for JSON.
set -eu
: "${BURSAR_URL:=http://127.0.0.1:9440}"
: "${BURSAR_TOKEN_FILE:=/var/run/secrets/bursar/token}"
[ $# -eq 4 ] || { echo "usage: $0 USER TOKEN APP_NAME PURPOSE" >&2; exit 2; }

# The header goes through standard input: arguments can be read by every
# process on the machine. The file is read anew each time, since the kubelet
# replaces the token before it expires. A proxy of the environment has no part
# in a call to localhost.
jwt=$(cat "$BURSAR_TOKEN_FILE")
request=$(python3 -c 'import json, sys
print(json.dumps(dict(zip(("user_id", "token", "app_name", "purpose"), sys.argv[1:]))))' "$@")
answer=$(printf 'Authorization: Bearer %s\n' "$jwt" |
  curl --silent --show-error --noproxy '*' --max-time 10 --write-out '\n%{http_code}' \
    --header @- --header 'Content-Type: application/json' \
    --data "$request" \
    "$BURSAR_URL/v1/tokens/access")
status=${answer##*
}
body=${answer%
*}
if [ "$status" != 200 ]; then
  printf '%s: %s\n' "$status" "$body" >&2
  exit 1
fi
printf '%s\n' "$body" | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])'
