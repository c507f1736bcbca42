//! A restore that dies at any effect is run again, and ends where an undisturbed one ends.

use std::{collections::BTreeMap, io::Write, sync::Arc, time::Duration};

use rsadm::{
    event::Events,
    exec::{
        self,
        restore::{Restore, RestoreError},
    },
    fake::{State, World, shape},
    inventory::{Cluster, Role},
    layout::IDENTITY,
    phases::UP,
    plan::sha256,
};

use crate::{
    faults::{differences, in_parallel, report, rests},
    harness::{block_on, built, etcd_only, ha},
};

const DATA: &[u8] = b"what etcd had";

/// What the command line does once it has a snapshot that is good: it goes on with the restore that hosts remember.
async fn restore(world: &Arc<World>, cluster: &Cluster) -> Result<(), String> {
    let fleet = world.fleet(cluster);
    exec::lock::take(&fleet, "a test", &rsadm::event::Events::none()).await.map_err(|r| r.to_string())?;
    let (members, events) = (world.members(cluster), Events::none());
    let restore = Restore {
        cluster,
        fleet: &fleet,
        members: &members,
        events: &events,
        targets: cluster.with_role(Role::Etcd).map(|n| n.name.clone()).collect(),
        limit: Duration::from_secs(20),
        stop: tokio::sync::watch::Sender::new(false).subscribe(),
    };
    let mut snapshot = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    snapshot.write_all(DATA).map_err(|e| e.to_string())?;
    let steps = async {
        let token = restore.under_way().await?.unwrap_or_else(|| "test-1".to_owned());
        restore.exchange(&token, snapshot.path(), &sha256(DATA)).await?;
        restore.unfence_members().await?;
        restore.finish().await.map(drop)
    };
    steps.await.map_err(|e: RestoreError| e.to_string())
}

fn heals_from_every_kill(name: &str, cluster: &Cluster) {
    let mut start = block_on(built(cluster)).state();
    start.hang_up();
    // All members stop at once: that is what a restore is.
    start.disaster = true;
    let (wanted, moments) =
        block_on(undisturbed(cluster, start)).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(moments.len() > 20, "{name}: only {} effects", moments.len());
    let wrong = in_parallel(&moments[..moments.len() - 1], |moment| {
        let mut state = moment.clone();
        state.hang_up();
        let again = async {
            let world = World::new(state);
            restore(&world, cluster).await?;
            differences(&wanted, &rests(&world, cluster, UP).await?)
        };
        let why = block_on(again).err()?;
        Some(format!("killed after effect {} ({}): {why}", moment.log.len(), moment.log.last()?))
    });
    report(name, wrong);
}

async fn undisturbed(
    cluster: &Cluster,
    start: State,
) -> Result<(BTreeMap<String, String>, Vec<State>), String> {
    let before = shape(&start);
    let world = World::new(start);
    world.keep_snapshots();
    restore(&world, cluster).await?;
    let moments = world.snapshots();
    let wanted = rests(&world, cluster, UP).await?;
    // Everything is as it was, but for which etcd cluster it is, and which one it took the place of.
    let all_else = |shape: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        shape
            .iter()
            .filter(|(key, _)| !key.ends_with(IDENTITY))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    differences(&all_else(&before), &all_else(&wanted))?;
    Ok((wanted, moments))
}

#[test]
fn row_47_a_killed_restore_goes_on_and_ends_as_an_undisturbed_one() {
    heals_from_every_kill("etcd only", &etcd_only());
    heals_from_every_kill("ha", &ha());
}
