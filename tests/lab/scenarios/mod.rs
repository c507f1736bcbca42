//! One file a topology or kind of fault; each starts with its test.

mod certificates;
mod cis;
mod etcd;
mod external;
mod interrupted;
mod kubeadm_built;
mod pods;
mod refusals;
mod restored;
mod rollback;
mod single;
mod stacked;
mod steady;
mod trixie;
