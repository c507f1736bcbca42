//! `rsadm kubeconfig`.

use std::path::PathBuf;

use clap::ValueHint;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::file::keep_others;
use crate::{
    cli::{
        CliError, Context, Exit, InventoryArg,
        private_file::{can_be_written, unwritable, write},
        session::Session,
    },
    host::{HostError, Op, Output, fleet::Fleet},
    inventory::NodeName,
    layout,
    pki::{
        inspect::{days_left, ends_with_authority, inspect},
        kubeconfig::{Credential, Kubeconfig, KubeconfigError},
        leaf::is_urgent,
    },
    secret::Secret,
};

mod file;

/// Print a kubeconfig for the cluster's administrator
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It holds a private key. With --to the file is made readable by you alone.

Examples:
  rsadm kubeconfig --to ~/.kube/config
  rsadm kubeconfig inventories/prod.yaml > prod.conf
  rsadm kubeconfig --super-admin --to rescue.conf")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    /// Write it to this file, mode 0600, instead of printing it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) to: Option<PathBuf>,

    /// Give the rights that no RBAC rule can take away
    #[arg(long)]
    pub(super) super_admin: bool,

    /// Dial the API at this URL instead of the inventory's
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, value_parser = server_url)]
    pub(super) server: Option<String>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    if let Some(to) = &args.to {
        can_be_written(to).map_err(|e| unwritable(to)(e).hint("without --to the kubeconfig is printed"))?;
    }
    let session = Session::control_planes(context, &args.inventory).await?;
    let path = if args.super_admin { layout::SUPER_ADMIN_CONF } else { layout::ADMIN_CONF };
    let Found { mut kubeconfig, ends, .. } = read(&session, path, &args.inventory).await?;
    let endpoint = || format!("https://{}", session.cluster.api_endpoint());
    kubeconfig.server = args.server.clone().unwrap_or_else(endpoint);
    kubeconfig.cluster.clone_from(&session.cluster.name);
    let text = kubeconfig.render();
    let Some(to) = &args.to else { return print(context, &kubeconfig, &text) };
    if !context.options.yes {
        keep_others(to, &kubeconfig)?;
    }
    write(to, text.expose()).map_err(unwritable(to))?;
    let written = Written {
        path: to.display().to_string(),
        context: kubeconfig.context(),
        server: kubeconfig.server.clone(),
        not_after: ends.and_then(|ends| ends.format(&Rfc3339).ok()),
    };
    context.print(&written, |w| format!("{}: context {}, dials {}\n", w.path, w.context, w.server))?;
    Ok(Exit::Done)
}

/// A kubeconfig in a file, for programs.
#[derive(Serialize)]
struct Written {
    path: String,
    context: String,
    server: String,
    /// When its certificate ends, RFC 3339: whoever has the file has to take it again by then.
    not_after: Option<String>,
}

/// From the control plane whose certificate ends last: one that was off while the others renewed theirs has an old one.
async fn read(session: &Session<'_>, path: &str, inventory: &InventoryArg) -> Result<Found, CliError> {
    let (found, lacking) = look(&session.fleet, path).await;
    let Some(newest) = newest(found) else { return Err(lacking.error(session, path, inventory)) };
    if let Some((text, help)) = newest.ending(path, inventory, OffsetDateTime::now_utc()) {
        session.context.ui.events().warn(text, Some(help));
    }
    Ok(newest)
}

/// What one control plane has.
struct Found {
    host: NodeName,
    kubeconfig: Kubeconfig,
    /// When its certificate does; `None` where that cannot be seen.
    ends: Option<OffsetDateTime>,
}

impl Found {
    /// What is to be known of it where its certificate has ended or soon does, and what helps.
    fn ending(&self, path: &str, inventory: &InventoryArg, now: OffsetDateTime) -> Option<(String, String)> {
        let ends = self.ends?;
        let when = match days_left(ends, now) {
            days if !is_urgent(days) => return None,
            0.. => "ends",
            _ => "has expired",
        };
        let text = format!("the certificate in {path} of {} {when} on {}", self.host, ends.date());
        let (inventory, authority) = (inventory.as_typed(), inspect(&self.kubeconfig.ca));
        let help = match authority.is_ok_and(|ca| ends_with_authority(ends, ca.not_after, now)) {
            true => format!(
                "its authority ends then, too, and nothing renews it: rsadm certs status{inventory} tells more"
            ),
            false => format!("rsadm certs renew{inventory} issues it anew; then take it again"),
        };
        Some((format!("{text}, and no host that answers has a newer one"), help))
    }
}

/// Control planes that gave no kubeconfig.
#[derive(Default)]
struct Lacking {
    without: Vec<NodeName>,
    silent: Vec<HostError>,
    unfit: Option<Unfit>,
}

impl Lacking {
    /// The error where no host gave one.
    fn error(self, session: &Session<'_>, path: &str, inventory: &InventoryArg) -> CliError {
        if let Some(unfit) = self.unfit {
            return CliError::new(Exit::StepFailed, unfit);
        }
        if self.without.is_empty() {
            return session.unreachable(&self.silent);
        }
        let names: Vec<&str> = self.without.iter().map(NodeName::as_str).collect();
        let silent: String = self.silent.iter().map(|error| format!("; {error}")).collect();
        let text = format!("{path} is not on {}{silent}", names.join(", "));
        CliError::new(Exit::StepFailed, text).hint(format!("rsadm up{} makes it", inventory.as_typed()))
    }
}

/// Asks all control planes; none that fails stands in the way of another.
async fn look(fleet: &Fleet, path: &str) -> (Vec<Found>, Lacking) {
    let names: Vec<NodeName> = fleet.hosts().iter().map(|host| host.name().clone()).collect();
    let ops = &[Op::Read(path.to_owned())];
    let answers = fleet.for_each(&names, |host| async move { host.run(ops, false).await }).await;
    let (mut found, mut lacking) = (Vec::new(), Lacking::default());
    for (host, answer) in answers {
        let read = answer.map(|outputs| outputs.first().filter(|o| o.ok()).map(Output::text));
        match read.map(|text| text.map(|text| Kubeconfig::parse(&text))) {
            Ok(Some(Ok(kubeconfig))) => found.push(Found { host, ends: ends(&kubeconfig), kubeconfig }),
            Ok(Some(Err(source))) => lacking.unfit = Some(Unfit { path: path.to_owned(), host, source }),
            Ok(None) => lacking.without.push(host),
            Err(error) => lacking.silent.push(error),
        }
    }
    (found, lacking)
}

fn ends(kubeconfig: &Kubeconfig) -> Option<OffsetDateTime> {
    match &kubeconfig.credential {
        Credential::Embedded { cert, .. } => inspect(cert).ok().map(|info| info.not_after),
        Credential::Files { .. } => None,
    }
}

/// The first of those that end last.
fn newest(found: Vec<Found>) -> Option<Found> {
    found.into_iter().reduce(|best, next| if next.ends > best.ends { next } else { best })
}

fn print(context: &Context, kubeconfig: &Kubeconfig, text: &Secret) -> Result<Exit, CliError> {
    let shown = Shown {
        cluster: kubeconfig.cluster.clone(),
        context: kubeconfig.context(),
        server: kubeconfig.server.clone(),
        kubeconfig: String::from_utf8_lossy(text.expose()).into_owned(),
    };
    context.print(&shown, |shown| shown.kubeconfig.clone())?;
    Ok(Exit::Done)
}

/// A kubeconfig itself, for programs.
#[derive(Serialize)]
struct Shown {
    cluster: String,
    context: String,
    server: String,
    kubeconfig: String,
}

/// An address that a kubeconfig may name.
fn server_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").unwrap_or_default();
    match host.is_empty() || host.starts_with(['/', ':']) || host.contains(char::is_whitespace) {
        true => Err("an API server is dialled at https://HOST:PORT".to_owned()),
        false => Ok(text.trim_end_matches('/').to_owned()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("could not use {path} of {host}")]
struct Unfit {
    path: String,
    host: NodeName,
    source: KubeconfigError,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        host::{Host, testing as stub},
        manifests::testing,
        pki::{authorities::Ca, issue::Authority, specs},
        ui::json::line,
    };

    /// A control plane with a text for its kubeconfig, or none, or that does not answer.
    fn machine(name: &'static str, has: Result<Option<String>, ()>) -> Arc<dyn Host> {
        stub::host(name, move |_| match &has {
            Ok(text) => stub::says(i32::from(text.is_none()), text.as_deref().unwrap_or_default()),
            Err(()) => stub::lost(name),
        })
    }

    /// An administrator's kubeconfig that was made so many days after 1970.
    fn admin(days: i64) -> String {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(days);
        let (cluster, authority) = (testing::ha(), Authority::make(Ca::Cluster, now).unwrap());
        let spec = specs::spec_for(&cluster, &cluster.nodes[0], "admin.conf").unwrap();
        let made = authority.issue(&spec, now).unwrap();
        let kubeconfig = Kubeconfig {
            cluster: "prod".into(),
            server: "https://m1:6443".into(),
            ca: authority.files().cert.clone(),
            user: "kubernetes-admin".into(),
            credential: Credential::Embedded { cert: made.cert, key: made.key },
        };
        String::from_utf8(kubeconfig.render().expose().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_certificate_that_ends_last_is_taken_past_hosts_that_fail() {
        let (old, new) = (|| Ok(Some(admin(1))), || Ok(Some(admin(300))));
        let unfit = || Ok(Some("- no kubeconfig".to_owned()));
        type Hosts = [Result<Option<String>, ()>; 3];
        let table: [(Hosts, Option<&str>, [usize; 3]); 6] = [
            ([old(), new(), old()], Some("m2"), [0, 0, 0]),
            ([new(), new(), old()], Some("m1"), [0, 0, 0]),
            ([Err(()), old(), Ok(None)], Some("m2"), [1, 1, 0]),
            ([unfit(), Ok(None), old()], Some("m3"), [1, 0, 1]),
            ([Err(()), Ok(None), Ok(None)], None, [2, 1, 0]),
            ([Err(()), Err(()), unfit()], None, [0, 2, 1]),
        ];
        for (hosts, taken, [without, silent, unfit]) in table {
            let machines = ["m1", "m2", "m3"].into_iter().zip(hosts);
            let machines = machines.map(|(name, has)| machine(name, has));
            let (found, lacking) = look(&Fleet::new(machines.collect(), 2), layout::ADMIN_CONF).await;
            let newest = newest(found);
            assert_eq!(newest.as_ref().map(|found| found.host.as_str()), taken);
            let inventory = InventoryArg { inventory: "prod.yaml".into() };
            let end = newest.as_ref().and_then(|found| found.ends);
            for (days, said) in [(31, None), (29, Some(" ends on ")), (-1, Some(" has expired on "))] {
                let now = end.unwrap_or(OffsetDateTime::UNIX_EPOCH) - time::Duration::days(days);
                let told = newest.as_ref().and_then(|found| found.ending("x.conf", &inventory, now));
                assert_eq!(told.is_some(), said.is_some() && newest.is_some(), "{told:?}");
                assert!(told.is_none_or(|(text, help)| {
                    text.contains(said.unwrap()) && help.starts_with("rsadm certs renew prod.yaml")
                }));
            }
            if let Some(mut last) = newest {
                let Credential::Embedded { cert, .. } = &last.kubeconfig.credential else { panic!() };
                last.kubeconfig.ca = cert.clone();
                let told = last.ending("x.conf", &inventory, end.unwrap()).unwrap();
                assert!(told.1.contains("nothing renews it: rsadm certs status prod.yaml"), "{told:?}");
            }
            let counts = (lacking.without.len(), lacking.silent.len(), usize::from(lacking.unfit.is_some()));
            assert_eq!(counts, (without, silent, unfit), "{taken:?}");
        }
    }

    /// Programs read these names: there may be more of them, and none is lost.
    #[test]
    fn what_programs_are_told() {
        let texts = || ["prod".to_owned(), "kubernetes-admin@prod".to_owned(), "https://lb:6443".to_owned()];
        let [cluster, context, server] = texts();
        let shown = Shown { cluster, context, server, kubeconfig: "kind: Config\n".into() };
        let [path, context, server] = texts();
        let written = Written { path, context, server, not_after: None };
        insta::assert_snapshot!(line(&shown) + &line(&written), @r#"
        {"cluster":"prod","context":"kubernetes-admin@prod","server":"https://lb:6443","kubeconfig":"kind: Config\n"}
        {"path":"prod","context":"kubernetes-admin@prod","server":"https://lb:6443","not_after":null}
        "#);
    }

    #[test]
    fn servers_are_https() {
        assert_eq!(server_url("https://lb:6443/").as_deref(), Ok("https://lb:6443"));
        for text in ["lb:6443", "http://lb", "https://", "https:///x", "https://a b"] {
            assert!(server_url(text).is_err(), "{text}");
        }
    }
}
