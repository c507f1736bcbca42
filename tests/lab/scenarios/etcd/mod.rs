//! Clusters that are etcd alone: their hosts run little, so that two of these labs have room on one machine.

mod etcd_only;
mod etcd_upgrade;
mod growth;
mod kept_out;
mod killed;
mod members;
mod snapshots;
mod upkeep;

/// Stops the member as an operator would, by its manifest.
const STOP: &str = "set -e
mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml
while pidof etcd > /dev/null; do sleep 0.2; done";

const START: &str = "mv /root/etcd.yaml /etc/kubernetes/manifests/etcd.yaml";

/// Flips a bit in every copy of a value with `markedmarked` in it, of a member that is stopped.
const FLIP: &str = r#"
set -e
db=/var/lib/etcd/member/snap/db
grep -aobF markedmarked "$db" | while IFS=: read -r at _; do
  printf 'M' | dd of="$db" bs=1 seek="$at" conv=notrunc status=none
done
"#;
