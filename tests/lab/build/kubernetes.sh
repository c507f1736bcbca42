# shellcheck shell=bash disable=SC2154
# The programs of one Kubernetes version from its module. Its staging modules (k8s.io/api, …) are published under v0.MINOR.PATCH.
commands=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl kubeadm)
source=$(go_source "k8s.io/kubernetes@$version")
go_require "k8s.io/kubernetes@$version"
sed -n "s#^\t\(k8s.io/[a-z-]*\) => ./staging.*#replace \1 => \1 v0${version#v1}#p" "$source/go.mod" >> go.mod

minor=${version#v1.} minor=${minor%%.*}
flags=(-s -w)
for module in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  for value in "gitVersion=$version" gitMajor=1 "gitMinor=$minor" gitTreeState=clean gitCommit=unknown buildDate=2026-01-01T00:00:00Z; do
    flags+=(-X "$module.$value")
  done
done
go_build -ldflags "${flags[*]}" "${commands[@]/#/k8s.io/kubernetes/cmd/}"

# The program of the pod sandbox, one C file that Kubernetes carries along.
gcc -Os -static -s -DVERSION=lab -o "$out/pause" "$source/build/pause/linux/pause.c"
