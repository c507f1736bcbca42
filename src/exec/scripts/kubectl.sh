# What changes objects asks the API server of its own host, past proxies.
k() { NO_PROXY='*' kubectl --kubeconfig /etc/kubernetes/super-admin.conf --request-timeout 30s "$@"; }
