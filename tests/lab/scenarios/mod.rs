//! One file a topology or kind of fault; each starts with its test.

mod certificates;
mod cis;
mod etcd_only;
mod etcd_upgrade;
mod external;
mod growth;
mod interrupted;
mod killed;
mod kubeadm_built;
mod members;
mod pods;
mod refusals;
mod restored;
mod rollback;
mod single;
mod snapshots;
mod stacked;
mod steady;
mod trixie;
mod upkeep;
