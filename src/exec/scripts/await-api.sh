# await-api.sh URL SECONDS: until the API server there says ready.
url=$1; end=$((SECONDS+$2)); hp=${url#https://}; host=${hp%:*} port=${hp##*:}
said="nothing listens on $hp"
# Anybody may ask that. kubectl takes ten times as long for it, of processors on which the API server wants to start.
if command -v curl >/dev/null; then
  ask() { curl -sS --noproxy '*' --max-time 5 --cacert /etc/kubernetes/pki/ca.crt "$url/readyz?verbose" 2>&1; }
else
  ask() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --server "$url" --request-timeout 5s get --raw '/readyz?verbose' 2>&1; }
fi
# A port costs nothing to try; for each answer the server looks through its forty checks, while it still makes its roles.
pause=0.1
while [ $SECONDS -lt $end ]; do
  if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
    said=$(ask) pause=0.4
    case $said in *'readyz check passed'*) exit 0 ;; esac
  fi
  sleep $pause
done
# What holds it up is one line of the forty that it answers.
failing=$(printf '%s' "$said" | sed 's/\\n/\n/g' | sed -n 's/.*\[-\]\([^ ]*\) .*/\1/p' | paste -sd' ')
[ -z "$failing" ] || said="it waits for $failing"
printf 'the API server at %s is not ready after %s s: %s\n' "$hp" "$2" "$said" >&2
exit 1
