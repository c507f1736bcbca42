# shellcheck shell=bash
# What is built beforehand, and everything from nothing.

verb_build() {
  local suite=bookworm runtime=none versions=() etcd=() version ARTIFACTS=build
  while (($#)); do
    case $1 in
      --kubernetes) versions+=("${2:?--kubernetes needs a version}"); shift ;;
      --etcd) etcd+=("${2:?--etcd needs a version}"); shift ;;
      --artifacts) ARTIFACTS=${2:?--artifacts needs "build" or "upstream"}; shift ;;
      --suite) suite=${2:?--suite needs a Debian release}; shift ;;
      --with-containerd) runtime=containerd ;;
      *) usage_error "unknown option $1" ;;
    esac
    shift
  done
  [[ $ARTIFACTS == build || $ARTIFACTS == upstream ]] || usage_error "--artifacts is \"build\" or \"upstream\""
  [[ $ARTIFACTS == upstream ]] || require_compilers go
  verb_packages
  base_build "$suite" "$runtime"
  if ! declare -F artifacts_build > /dev/null; then
    say "[build] lib/artifacts.sh is not there: nothing but the root tree was built"
    return
  fi
  export ARTIFACTS
  artifacts_build "${versions[@]}"
  for version in "${etcd[@]}"; do artifact_image "registry.k8s.io/etcd:${version#v}-0"; done
}

verb_demo() {
  local start=$EPOCHREALTIME inventory=$REPOSITORY/inventories/lab.yaml compiling
  require_compilers cargo
  [[ " $* " == *" upstream "* ]] || require_compilers go
  # A minimal Debian has no `ip`, with which the kernel is tried.
  verb_packages
  require_kernel
  # Beside the other programs, since each leaves a core idle now and then; in a group of its own, which ends with us.
  set -m
  step rsadm "cargo build" demo_compile &
  compiling=$!
  set +m
  # shellcheck disable=SC2064  # this one
  trap "kill -- -$compiling 2> /dev/null" EXIT
  verb_build "$@"
  wait "$compiling"
  trap - EXIT
  verb_up
  # Each in a process of its own, since `workstation` becomes what it runs.
  operator rsadm up "$inventory"
  demo_show rsadm status "$inventory"
  demo_show rsadm etcd status "$inventory"
  (umask 077; operator rsadm kubeconfig "$inventory" > "$STATE/home/kubeconfig")
  demo_show kubectl --kubeconfig "$STATE/home/kubeconfig" get nodes,pods -A -o wide
  say "[demo] everything  $(seconds_since "$start") s. It keeps running; 'lab down' ends it."
}

operator() { "$LAB_DIR/lab" workstation "$@"; }

# What is not well yet is shown like all else: a node may be late with its word on a busy machine.
demo_show() {
  local code=0
  printf '\n$ %s\n' "$*"
  operator "$@" || code=$?
  [[ $code != 8 ]] || { say "[demo] that ended with 8: not all is well yet, and it says what; ask again in a moment"; return 0; }
  return "$code"
}

# Unoptimized: half the time to build, and hardly another to run, since rsadm waits for hosts most of its time. With the
# features that tests give the crates it is made of, so that tests/all, after it or before, compiles none of them again.
demo_compile() {
  cargo build --locked --manifest-path "$REPOSITORY/Cargo.toml" --all-features --bin rsadm --test architecture
}
