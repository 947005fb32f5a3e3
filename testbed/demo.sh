#!/usr/bin/env bash
# The tour: every line that starts with `$` is a command you could type
# yourself in `make up`. Run by `make demo`, which starts what it needs first
# and takes everything away afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${KUBECONFIG:?run this with make demo}" "${BURSAR_URL:?}" "${BURSAR_TOKEN_FILE:?}" "${DATABASE_URL:?}"
testbed=${BURSAR_TESTBED:?the testbed binary, set by make demo}
work=$(mktemp -d)
sidecar_pid=
reader_pids=()
finish() {
  for pid in $sidecar_pid "${reader_pids[@]}"; do
    kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
  done
  rm -rf "$work"
}
trap finish EXIT

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
# Colours only for people.
if [ -t 1 ]; then bold=$'\033[1m' blue=$'\033[36m' plain=$'\033[0m'; else bold='' blue='' plain=''; fi
more() { printf '%s  %s%s\n' "$blue" "$*" "$plain"; } # the rest of a command
show() { printf '%s$ %s%s\n' "$blue" "$*" "$plain"; }
# Quoted, so that what is shown can be pasted.
run() {
  local word line=
  for word in "$@"; do
    case $word in *[\{\"\ ]*) line+=" '$word'" ;; *) line+=" $word" ;; esac
  done
  show "${line# }"
  "$@"
}
sql() {
  show "psql \$DATABASE_URL --command \"$1\""
  psql --quiet --dbname "$DATABASE_URL" --command "$1"
}
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# access TOKEN-NAME [curl arguments]: one access; the body goes to $work/body,
# the status to $status.
access() {
  local name=$1
  shift
  status=$(curl --silent --output "$work/body" --write-out '%{http_code}' \
    --header 'Content-Type: application/json' \
    --data '{"user_id":"ana","token":"'"$name"'","app_name":"demo","purpose":"show"}' \
    "$@" "$BURSAR_URL/v1/tokens/access")
  if [ "$status" = 200 ]; then count "$(sed -n 's/.*"version":\([0-9]*\).*/\1/p' "$work/body")"; fi
}
# How often this tour was given which version.
declare -a reads=()
count() { reads[$1]=$((${reads[$1]:-0} + 1)); }
expect() { # expect STATUS WHAT
  printf '%s %s\n' "$status" "$(cat "$work/body")"
  [ "$status" = "$1" ] || fail "$2: expected $1, got $status"
}
value() { sed -n 's/.*"token":"\([^"]*\)".*/\1/p' "$work/body"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
bearer() { printf 'Authorization: Bearer %s' "$(cat "$1")"; }

step 'What was applied, and what became of it'
run kubectl wait --namespace team-a --for=condition=Ready --timeout=60s tokenuser/ana storedtoken/github storedtoken/slack
run kubectl get bursar --namespace team-a

step "The pod's own JWT fetches the token"
show "curl -H \"Authorization: Bearer \$(cat \$BURSAR_TOKEN_FILE)\" -H 'Content-Type: application/json' \\"
more "  -d '{\"user_id\":\"ana\",\"token\":\"github\",\"app_name\":\"demo\",\"purpose\":\"show\"}' \$BURSAR_URL/v1/tokens/access"
access github --header "$(bearer "$BURSAR_TOKEN_FILE")"
expect 200 "the pod's own JWT"
first=$(value)
[ "$first" = "$(kubectl get secret --namespace team-a github-ana --output 'jsonpath={.data.token}' | base64 -d)" ] ||
  fail 'what the broker served is not what the Secret holds'

step 'The example clients fetch it too'
for client in fetch.sh fetch.py; do
  show "examples/clients/$client ana github demo show"
  [ "$(examples/clients/$client ana github demo show)" = "$first" ] ||
    fail "$client did not fetch what the Secret holds"
  count 1
  echo "$first"
done

step 'The same call without a JWT'
access github
expect 401 'no JWT'

step "The same call with another pod's JWT"
run kubectl apply --filename testbed/demo-pod.yaml
show 'kubectl create token app -n team-a --audience bursar --bound-object-kind Pod --bound-object-name app-2'
kubectl create token app --namespace team-a --audience bursar \
  --bound-object-kind Pod --bound-object-name app-2 >"$work/other-pod.jwt"
access github --header "$(bearer "$work/other-pod.jwt")"
expect 401 "another pod's JWT"

step 'The same call in a pod whose service account is not listed for ana'
show '$BURSAR_TESTBED sidecar --namespace team-a --service-account other'
"$testbed" sidecar --service-account other >"$work/other.env" 2>"$work/sidecar.log" &
sidecar_pid=$!
for _ in $(seq 150); do
  [ -s "$work/other.env" ] && break
  kill -0 "$sidecar_pid" 2>/dev/null || { cat "$work/sidecar.log"; fail 'the second sidecar ended'; }
  sleep 0.2
done
[ -s "$work/other.env" ] || { cat "$work/sidecar.log"; fail 'the second sidecar was not ready in 30 s'; }
(
  # shellcheck disable=SC1091
  . "$work/other.env"
  access github --header "$(bearer "$BURSAR_TOKEN_FILE")"
  expect 403 'a service account that is not listed'
  sed -n 's/.*"decision_id":"\([0-9a-f]*\)".*/\1/p' "$work/body" >"$work/denied"
)
kill "$sidecar_pid"
wait "$sidecar_pid" || fail 'the second sidecar did not end well'
sidecar_pid=
[ -z "$(kubectl get pod other-sidecar --namespace team-a --ignore-not-found)" ] ||
  fail 'the second sidecar left its pod'

step 'The Secret changes; the next reads get the new value'
started=$(now_ms)
run kubectl patch secret github-ana --namespace team-a --type merge \
  --patch '{"stringData":{"token":"example-value-two-not-a-real-token"}}'
for _ in $(seq 500); do
  access github --header "$(bearer "$BURSAR_TOKEN_FILE")"
  [ "$(value)" = example-value-two-not-a-real-token ] && break
  sleep 0.02
done
expect 200 'the new value'
[ "$(value)" = example-value-two-not-a-real-token ] || fail 'the new value was not served in 10 s'
echo "served $(($(now_ms) - started)) ms after the command began (kubectl itself included)"

step 'Revoke every version so far; the next read is refused'
version=$(kubectl get storedtoken github --namespace team-a --output 'jsonpath={.status.version}')
started=$(now_ms)
run kubectl patch storedtoken github --namespace team-a --type merge \
  --patch '{"spec":{"revocation":{"throughVersion":'"$version"'}}}'
for _ in $(seq 500); do
  access github --header "$(bearer "$BURSAR_TOKEN_FILE")"
  [ "$status" != 200 ] && break
  sleep 0.01
done
expect 410 'a revoked token'
echo "refused $(($(now_ms) - started)) ms after the command began (kubectl itself included)"
kubectl wait --namespace team-a --for=condition=Usable=false --timeout=30s storedtoken/github >/dev/null
run kubectl get bursar --namespace team-a

step 'The database has only ciphertext'
# Postgres dumps bytes as hex, so a value would show as either.
as_hex=$(printf example-value | od -An -tx1 | tr -d ' \n')
show "pg_dump --data-only \$DATABASE_URL | grep --count --regexp example-value --regexp $as_hex"
pg_dump --data-only --dbname "$DATABASE_URL" >"$work/dump.sql"
grep -q '^COPY public.token_version' "$work/dump.sql" || fail 'the dump has no token versions'
if grep --count --regexp example-value --regexp "$as_hex" "$work/dump.sql"; then
  fail 'a value stands in the database in the clear'
fi
sql \
  "select version, state, octet_length(ciphertext) as bytes, left(encode(ciphertext, 'hex'), 24) as ciphertext from token_version order by token_id, version"

step 'Who read what: how often which service account got which version, as its broker reported it'
# Version and how often, a line for each version.
recorded() {
  kubectl bursar audit --namespace team-a --outcome Served --output jsonl |
    sed -n 's/.*"count":\([0-9]*\),.*"version":\([0-9]*\),.*/\2 \1/p' |
    awk '{ n[$1] += $2 } END { for (v in n) print v, n[v] }' | sort -n
}
given=$(for version in "${!reads[@]}"; do echo "$version ${reads[$version]}"; done)
for _ in $(seq 30); do # brokers report every two seconds
  [ "$(recorded)" = "$given" ] && break
  sleep 1
done
[ "$(recorded)" = "$given" ] || fail "this tour was given version and count: $given"
run kubectl bursar audit --namespace team-a --outcome Served
echo "They are this tour's own, each one that was answered 200; it read in a loop until the value changed."

step 'Why that call was refused: the caller was not told, who may read the audit is'
run kubectl bursar why "$(cat "$work/denied")" --namespace team-a

step 'Nobody has changed, removed or put back a record'
run kubectl bursar audit verify --namespace team-a

step 'Revoke in an emergency: the spec stays as it is, and the command waits for every broker'
access slack --header "$(bearer "$BURSAR_TOKEN_FILE")"
expect 200 'slack, before it is revoked'
run kubectl bursar revoke slack --namespace team-a --wait
run kubectl bursar audit --namespace team-a --outcome Revoked

. testbed/demo-quota.sh
. testbed/demo-uploads.sh

printf '\nThat was the tour. make up keeps all of this running for you to try.\n'
