//! Clusters that are etcd alone: their hosts run little, so that two of these labs have room on one machine.

mod etcd_only;
mod etcd_upgrade;
mod growth;
mod kept_out;
mod killed;
mod members;
mod snapshots;
mod upkeep;
