//! `rsadm token …`.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::{CliError, Context, Exit, InventoryArg, args::duration, session::Session},
    host::{Cmd, Host, Op, Output},
    inventory::{Cluster, Node, Role},
    layout,
    line::chain,
    manifests::{BootstrapToken, bootstrap_token},
    pki::{authorities::Ca, inspect::inspect},
    secret::Secret,
};

/// Manage bootstrap tokens, with which kubeadm join adds workers
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Create(CreateArgs),
}

/// Make a bootstrap token and print it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Whoever has the token can join nodes until it expires. The kubelet of such a node asks for its
serving certificate, without which kubectl logs and exec fail there: kubectl get csr, and
kubectl certificate approve.

Examples:
  rsadm token create inventories/prod.yaml
  rsadm token create --ttl 1h --print-join-command")]
pub(super) struct CreateArgs {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    /// Let it expire after this time, such as 30m or 24h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub(super) ttl: Duration,

    /// Say what it is for, beside it in the cluster
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<String>,

    /// Print the whole kubeadm join command instead of the token alone
    #[arg(long)]
    pub(super) print_join_command: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::Create(args) => create(args, context).await,
    }
}

async fn create(args: &CreateArgs, context: &Context) -> Result<Exit, CliError> {
    // Known before anybody is dialled.
    expiry(OffsetDateTime::now_utc(), args.ttl).map_err(|why| CliError::new(Exit::Usage, why))?;
    let session = Session::control_planes(context, &args.inventory).await?;
    let bug = |error: String| CliError::new(Exit::Bug, error);
    let mut token = BootstrapToken {
        id: random(6).map_err(bug)?,
        secret: Secret::new(random(16).map_err(bug)?),
        expiration: String::new(),
        description: args.description.clone().unwrap_or_else(|| "rsadm token create".to_owned()),
    };
    let (authority, took) = apply(&session, &mut token, args.ttl).await?;
    if let Some((away, help)) = away(&session.cluster, took) {
        context.ui.events().warn(away, Some(help));
    }
    let whole = format!("{}.{}", token.id, String::from_utf8_lossy(token.secret.expose()));
    let made = Made {
        join_command: join_command(&session.cluster.api_endpoint(), &whole, &authority),
        token: whole,
        expires: token.expiration,
    };
    context.print(&made, |m| {
        let line = if args.print_join_command { &m.join_command } else { &m.token };
        format!("{line}\n")
    })?;
    Ok(Exit::Done)
}

/// A token, for programs.
#[derive(Serialize)]
struct Made {
    token: String,
    expires: String,
    join_command: String,
}

/// What to say where `api.host` is the address of a control plane that did not take the token while another did. Whomever a host
/// that joins asks first, kubeadm goes on with the server that ConfigMap `cluster-info` names (kubeadm, `discovery.For`).
fn away(cluster: &Cluster, took: &Node) -> Option<(String, String)> {
    let mut asked = cluster.with_role(Role::ControlPlane).filter(|node| is_asked(cluster, node));
    let away = asked.find(|node| node.name != took.name)?;
    Some((
        format!(
            "the API server of {} did not take the token, and kubeadm join waits for it: api.host is its address",
            away.name
        ),
        format!(
            "bring {0} back first; or, where its host is gone for good, take {0} out of the inventory (README, One that is \
             dead), set api.host to an address that moves to whoever serves, and rsadm up",
            away.name
        ),
    ))
}

/// Whether clients dial that control plane itself, and no address that moves.
fn is_asked(cluster: &Cluster, node: &Node) -> bool {
    node.internal_address.to_string() == cluster.api.host
}

/// What is typed on the host that shall join. `pin` is the SHA-256 of the authority's public key, by which the host knows
/// the cluster.
fn join_command(endpoint: &str, token: &str, pin: &str) -> String {
    format!("kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash sha256:{pin}")
}

/// Letters and digits that tokens are made of, each as likely as the others.
fn random(length: usize) -> Result<String, String> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|e| format!("no randomness: {e}"))?;
        // Above the last multiple of 36 some letters would come more often.
        let letters = bytes.iter().filter(|b| **b < 252).filter_map(|b| ALPHABET.get(usize::from(*b % 36)));
        text.extend(letters.map(|l| char::from(*l)).take(length - text.len()));
    }
    Ok(text)
}

/// When a token ends that holds from now on, in RFC 3339.
fn expiry(now: OffsetDateTime, ttl: Duration) -> Result<String, String> {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let ends = time::Duration::try_from(ttl).ok().and_then(|ttl| now.checked_add(ttl));
    let ends = ends.ok_or_else(|| "--ttl ends after the year 9999; such as 24h is usual".to_owned())?;
    ends.format(&Rfc3339).map_err(|e| e.to_string())
}

/// Puts the token into the cluster through the first control plane whose API server takes it; answers the pin of the
/// authority there, and which one that is.
async fn apply<'s>(
    session: &'s Session<'_>,
    token: &mut BootstrapToken,
    ttl: Duration,
) -> Result<(String, &'s Node), CliError> {
    let mut failures = Vec::new();
    // The one that joining hosts ask is asked first.
    let mut nodes: Vec<&Node> = session.cluster.with_role(Role::ControlPlane).collect();
    nodes.sort_by_key(|node| !is_asked(&session.cluster, node));
    for node in nodes {
        let Some(host) = session.fleet.host(&node.name) else { continue };
        let server = node.api_url(session.cluster.api.port);
        match by_its_clock(host.as_ref(), &server, token, ttl).await {
            Ok(pin) => return Ok((pin, node)),
            Err(why) => failures.push(why),
        }
    }
    let failures = failures.join("\n  ");
    // kubectl names it where it cannot be used.
    let hint = match failures.contains(layout::SUPER_ADMIN_CONF) {
        true => "rsadm up puts a kubeconfig back that is gone or of no use",
        false => "rsadm status shows what keeps them from it",
    };
    Err(CliError::new(Exit::StepFailed, format!("no API server took the token\n  {failures}")).hint(hint))
}

/// How far a control plane's clock may be from this computer's.
const APART: time::Duration = time::Duration::MINUTE;

/// Puts it there, and once more where the host's clock is another than this computer's: control planes are who sees
/// whether it has expired.
async fn by_its_clock(
    host: &dyn Host,
    server: &str,
    token: &mut BootstrapToken,
    ttl: Duration,
) -> Result<String, String> {
    let ours = OffsetDateTime::now_utc();
    token.expiration = expiry(ours, ttl)?;
    let (pin, theirs) = put(host, server, token).await?;
    match theirs.filter(|theirs| (*theirs - ours).abs() > APART) {
        None => Ok(pin),
        Some(theirs) => {
            token.expiration = expiry(theirs, ttl)?;
            put(host, server, token).await.map(|(pin, _)| pin)
        }
    }
}

/// The pin of the authority there, and what time it is there, where that can be told. The token travels to kubectl's
/// standard input and is in no file and no argument.
async fn put(
    host: &dyn Host,
    server: &str,
    token: &BootstrapToken,
) -> Result<(String, Option<OffsetDateTime>), String> {
    let kubectl = format!("{}/kubectl", layout::BIN_DIR);
    // Applied, not created: where an answer was lost, the next control plane finds it as wanted.
    let argv = [
        kubectl.as_str(),
        "--kubeconfig",
        layout::SUPER_ADMIN_CONF,
        "--server",
        server,
        "--request-timeout",
        "10s",
        "apply",
        "--server-side",
        "--field-manager",
        "rsadm",
        "-f",
        "-",
    ];
    let stdin = bootstrap_token(token).map_err(|e| chain(&e))?;
    let apply = Cmd { stdin, ..Cmd::new(argv).timeout(Duration::from_secs(20)) };
    let ops = [Op::Run(Cmd::new(["date", "+%s"])), Op::Run(apply), Op::Read(Ca::Cluster.cert_path())];
    match host.run(&ops, false).await.as_deref() {
        Ok([clock, applied, authority]) if applied.ok() && authority.ok() => {
            let pin = inspect(&authority.text()).map_err(|e| format!("{}: {e}", host.name()))?.spki_sha256;
            let time = clock.text().trim().parse().ok();
            Ok((pin, time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok())))
        }
        Ok(outputs) => Err(format!("{}: {}", host.name(), said(outputs.last()))),
        Err(error) => Err(error.to_string()),
    }
}

fn said(output: Option<&Output>) -> String {
    let text = output.map(|o| o.stderr.trim().to_owned()).unwrap_or_default();
    text.lines().last().unwrap_or("no answer").to_owned()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Mutex};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        host::{Forward, HostError},
        inventory::NodeName,
        manifests::testing,
        pki::issue::Authority,
    };

    /// A control plane whose clock is so far ahead, or none it can tell, and what was applied there.
    struct Machine {
        name: NodeName,
        ahead: Option<time::Duration>,
        applied: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Host for Machine {
        fn name(&self) -> &NodeName {
            &self.name
        }

        async fn run(&self, ops: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
            let now = OffsetDateTime::now_utc();
            let answers = ops.iter().map(|op| match op {
                Op::Run(cmd) if cmd.argv[0] == "date" => {
                    self.ahead.map_or_else(String::new, |ahead| (now + ahead).unix_timestamp().to_string())
                }
                Op::Run(cmd) => {
                    let object = String::from_utf8(cmd.stdin.expose().to_vec()).unwrap();
                    let expiration =
                        object.lines().find_map(|l| l.trim().strip_prefix("expiration: ")).unwrap();
                    self.applied.lock().unwrap().push(expiration.trim_matches(['\'', '"']).to_owned());
                    String::new()
                }
                _ => Authority::make(Ca::Cluster, now).unwrap().files().cert.clone(),
            });
            Ok(answers.map(|text| Output { stdout: text.into(), ..Output::default() }).collect())
        }

        async fn forward(&self, _: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
            unreachable!("nothing is dialled")
        }
    }

    #[tokio::test]
    async fn it_expires_by_the_control_planes_clock_where_that_is_another() {
        let days = time::Duration::days;
        for (ahead, times, ends) in [
            (Some(days(0)), 1, days(1)),
            (None, 1, days(1)),
            (Some(days(30)), 2, days(31)),
            (Some(days(-30)), 2, days(-29)),
        ] {
            let host = Machine { name: NodeName::new("m1"), ahead, applied: Mutex::default() };
            let mut token = BootstrapToken {
                id: "abcdef".into(),
                secret: Secret::new("0123456789abcdef"),
                expiration: String::new(),
                description: String::new(),
            };
            let wanted = OffsetDateTime::now_utc() + ends;
            by_its_clock(&host, "https://m1:6443", &mut token, Duration::from_secs(86_400)).await.unwrap();
            let applied = host.applied.into_inner().unwrap();
            assert_eq!((applied.len(), applied.last()), (times, Some(&token.expiration)), "{ahead:?}");
            let off = OffsetDateTime::parse(&token.expiration, &Rfc3339).unwrap() - wanted;
            assert!(off.abs() < days(1), "{ahead:?}: {}", token.expiration);
        }
    }

    #[test]
    fn no_token_outlives_the_calendar() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(expiry(now, Duration::from_secs(90)).as_deref(), Ok("1970-01-01T00:01:30Z"));
        for seconds in [99_999_999 * 3600, u64::MAX] {
            assert!(expiry(now, Duration::from_secs(seconds)).is_err_and(|e| e.contains("year 9999")));
        }
    }

    #[test]
    fn tokens_have_the_form_that_kubernetes_wants() {
        let (id, secret) = (random(6).unwrap(), random(16).unwrap());
        assert_eq!((id.len(), secret.len()), (6, 16));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(id.chars().all(fits) && secret.chars().all(fits), "{id} {secret}");
        assert_ne!(secret, random(16).unwrap());
    }

    #[test]
    fn a_control_plane_that_is_away_holds_up_who_joins_where_the_cluster_has_no_address_of_its_own() {
        let mut cluster = testing::ha();
        let m2 = cluster.node(&NodeName::new("m2")).unwrap().clone();
        let (first, second) =
            (cluster.nodes[0].internal_address.to_string(), m2.internal_address.to_string());
        for (host, is_away) in [(first.as_str(), true), (second.as_str(), false), ("api.example", false)] {
            cluster.api.host = host.to_owned();
            assert_eq!(away(&cluster, &m2).is_some(), is_away, "{host}");
        }
        cluster.api.host = first;
        let (text, help) = away(&cluster, &m2).unwrap();
        assert!(text.starts_with("the API server of m1 did not take the token"), "{text}");
        assert!(help.starts_with("bring m1 back first"), "{help}");
    }

    /// Programs read these names: there may be more of them, and none is lost.
    #[test]
    fn what_programs_are_told() {
        let made = Made {
            token: "a.b".into(),
            expires: "1970-01-01T00:01:30Z".into(),
            join_command: "kubeadm join".into(),
        };
        insta::assert_snapshot!(crate::ui::json::line(&made), @r#"{"token":"a.b","expires":"1970-01-01T00:01:30Z","join_command":"kubeadm join"}"#);
    }

    #[test]
    fn the_join_command_is_kubeadms() {
        assert_eq!(
            join_command("10.0.0.1:6443", "abcdef.0123456789abcdef", "ab12"),
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:ab12"
        );
    }
}
