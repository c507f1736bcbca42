//! `rsadm token …`.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::{CliError, Context, Exit, InventoryArg, args::duration, session::Session},
    host::{Cmd, Op, Output, Secret},
    inventory::Role,
    layout,
    manifests::{BootstrapToken, bootstrap_token},
    pki::{authorities::Ca, inspect::inspect},
};

/// Manage bootstrap tokens, with which kubeadm join adds nodes
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
Whoever has the token can join nodes until it expires.

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
    let session = Session::control_planes(context, &args.inventory).await?;
    let bug = |error: String| CliError::new(Exit::Bug, error);
    let ends = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or_else(|_| OffsetDateTime::now_utc());
    let expires = (ends + args.ttl).format(&Rfc3339).map_err(|e| CliError::new(Exit::Usage, e))?;
    let token = BootstrapToken {
        id: random(6).map_err(bug)?,
        secret: Secret::new(random(16).map_err(bug)?),
        expiration: expires.clone(),
        description: args.description.clone().unwrap_or_else(|| "rsadm token create".to_owned()),
    };
    let object = bootstrap_token(&token).map_err(|e| CliError::new(Exit::Bug, e))?;
    let authority = apply(&session, &object).await?;
    let whole = format!("{}.{}", token.id, String::from_utf8_lossy(token.secret.expose()));
    let made = Made {
        join_command: join_command(&session.cluster.api_endpoint(), &whole, &authority),
        token: whole,
        expires,
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

/// Puts the object into the cluster through the first control plane whose API server takes it; answers the pin of the
/// authority there. The token travels to kubectl's standard input and is in no file and no argument.
async fn apply(session: &Session<'_>, object: &Secret) -> Result<String, CliError> {
    let mut failures = Vec::new();
    for node in session.cluster.with_role(Role::ControlPlane) {
        let Some(host) = session.fleet.host(&node.name) else { continue };
        let server = node.api_url(session.cluster.api.port);
        let kubectl = format!("{}/kubectl", layout::BIN_DIR);
        // Applied, not created: where an answer was lost, the next control plane finds it as wanted.
        let argv = [
            kubectl.as_str(),
            "--kubeconfig",
            layout::SUPER_ADMIN_CONF,
            "--server",
            &server,
            "--request-timeout",
            "10s",
            "apply",
            "--server-side",
            "--field-manager",
            "rsadm",
            "-f",
            "-",
        ];
        let cmd = Cmd { stdin: object.clone(), ..Cmd::new(argv).timeout(Duration::from_secs(20)) };
        let ops = [Op::Run(cmd), Op::Read(Ca::Cluster.cert_path())];
        match host.run(&ops, false).await.as_deref() {
            Ok([applied, authority]) if applied.ok() && authority.ok() => {
                return inspect(&authority.text())
                    .map(|info| info.spki_sha256)
                    .map_err(|e| CliError::new(Exit::StepFailed, e));
            }
            Ok(outputs) => failures.push(format!("{}: {}", node.name, said(outputs.last()))),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(CliError::new(Exit::StepFailed, format!("no API server took the token\n  {}", failures.join("\n  ")))
        .hint("rsadm status shows what keeps them from it"))
}

fn said(output: Option<&Output>) -> String {
    let text = output.map(|o| o.stderr.trim().to_owned()).unwrap_or_default();
    text.lines().last().unwrap_or("no answer").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_kubernetes_wants() {
        let (id, secret) = (random(6).unwrap(), random(16).unwrap());
        assert_eq!((id.len(), secret.len()), (6, 16));
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(id.chars().all(fits) && secret.chars().all(fits), "{id} {secret}");
        assert_ne!(secret, random(16).unwrap());
    }

    #[test]
    fn the_join_command_is_kubeadms() {
        assert_eq!(
            join_command("10.0.0.1:6443", "abcdef.0123456789abcdef", "ab12"),
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:ab12"
        );
    }
}
