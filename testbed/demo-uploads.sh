# A step of the tour, sourced by demo.sh: applications count what is their own.

step 'An application counts its uploads: ten a day for each user'
sed 's/^/  /' examples/quota/uploads.yaml
run kubectl apply --filename examples/quota/uploads.yaml
kubectl wait --namespace team-a --for=condition=Ready --timeout=30s tokenquota/uploads >/dev/null

# upload consume|release KEY: one unit; the body goes to $work/body, the status to $status.
upload() {
  status=$(curl --silent --noproxy '*' --output "$work/body" --write-out '%{http_code}' \
    --request POST --header "Idempotency-Key: $2" --header "$(bearer "$BURSAR_TOKEN_FILE")" \
    "$BURSAR_URL/v1/quotas/ana/filesUploaded/$1")
}
show 'curl --request POST --header "Idempotency-Key: upload-1" ... $BURSAR_URL/v1/quotas/ana/filesUploaded/consume'
for n in 1 2 3 4 5 6 7 8 9 10; do
  upload consume "upload-$n"
  expect 200 "upload $n"
done
more "the same with the key upload-10 again, as if its answer was lost: it is not counted again"
upload consume upload-10
expect 200 'the tenth again under its key, which is not counted again'
more 'the same with the key upload-11'
upload consume upload-11
expect 429 'the eleventh upload'
show 'curl --request POST ... $BURSAR_URL/v1/quotas/ana/filesUploaded/release'
upload release deleted-1
expect 200 'giving one back'
show 'curl --request POST --header "Idempotency-Key: upload-11" ... $BURSAR_URL/v1/quotas/ana/filesUploaded/consume'
upload consume upload-11
expect 200 'the eleventh upload, under the same key'
