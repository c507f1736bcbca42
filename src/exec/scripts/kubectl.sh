# What changes objects asks the API server of its own host, past proxies.
k() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --request-timeout 30s "$@"; }

# again COMMAND…: until it succeeds: what a busy API server fails at it may do a moment later. At $end it fails, with what it said
# last; and at once where it turned down what it was given.
again() {
  local said
  until { said=$("$@" 2>&1 >&3); } 3>&1; do
    case $said in *'(Invalid)'* | *'(BadRequest)'* | *'denied the request'* | *' is invalid: '*) printf '%s\n' "$said" >&2; return 1 ;; esac
    [ $SECONDS -lt "${end:?}" ] || { printf '%s\n' "$said" >&2; return 1; }
    sleep 0.5
  done
}
