//! `rsadm kubeconfig`.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::ValueHint;
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{CliError, Context, Exit, InventoryArg, session::Session, shell::quoted},
    host::{Op, Secret},
    inventory::NodeName,
    layout,
    pki::kubeconfig::{self, Kubeconfig, KubeconfigError},
};

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
        can_be_written(to).map_err(unwritable(to))?;
    }
    let session = Session::control_planes(context, &args.inventory).await?;
    let path = if args.super_admin { layout::SUPER_ADMIN_CONF } else { layout::ADMIN_CONF };
    let mut kubeconfig = read(&session, path, &args.inventory).await?;
    let endpoint = || format!("https://{}", session.cluster.api_endpoint());
    kubeconfig.server = args.server.clone().unwrap_or_else(endpoint);
    kubeconfig.cluster.clone_from(&session.cluster.name);
    let text = kubeconfig.render();
    let Some(to) = &args.to else { return print(context, &kubeconfig, &text) };
    if !context.options.yes {
        keep_others(to, &kubeconfig.cluster)?;
    }
    write(to, &text).map_err(unwritable(to))?;
    let written = Written {
        path: to.display().to_string(),
        context: kubeconfig.context(),
        server: kubeconfig.server.clone(),
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
}

/// From the first control plane that has it.
async fn read(session: &Session<'_>, path: &str, inventory: &InventoryArg) -> Result<Kubeconfig, CliError> {
    for host in session.fleet.hosts() {
        let outputs = host
            .run(&[Op::Read(path.to_owned())], false)
            .await
            .map_err(|error| session.unreachable(&[error]))?;
        let Some(output) = outputs.first().filter(|o| o.ok()) else { continue };
        let name = host.name().clone();
        return Kubeconfig::parse(&output.text()).map_err(|source| {
            CliError::new(Exit::StepFailed, Unfit { path: path.to_owned(), host: name, source })
        });
    }
    let names: Vec<&str> = session.fleet.hosts().iter().map(|h| h.name().as_str()).collect();
    let text = format!("{path} is not on {}", names.join(", "));
    Err(CliError::new(Exit::StepFailed, text).hint(format!("rsadm up{} makes it", inventory.as_typed())))
}

fn print(context: &Context, kubeconfig: &Kubeconfig, text: &Secret) -> Result<Exit, CliError> {
    let text = String::from_utf8_lossy(text.expose());
    let json = json!({
        "cluster": kubeconfig.cluster,
        "context": kubeconfig.context(),
        "server": kubeconfig.server,
        "kubeconfig": text,
    });
    context.print(&json, |_| text.clone().into_owned())?;
    Ok(Exit::Done)
}

/// Refuses to replace a file that holds the ways to other clusters, or something else altogether.
fn keep_others(path: &Path, cluster: &str) -> Result<(), CliError> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let Some(others) = others(&text, cluster) else { return Ok(()) };
    let name = path.display();
    Err(CliError::new(Exit::Refused, format!("{name} {others}, and would be replaced"))
        .hint(format!("write another file, and use both: export KUBECONFIG={}:FILE", quoted(name)))
        .hint("--yes replaces it"))
}

/// What a file holds beside a kubeconfig of this cluster.
fn others(text: &str, cluster: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    let Some(names) = kubeconfig::clusters(text) else { return Some("is no kubeconfig".to_owned()) };
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != cluster).collect();
    (!others.is_empty()).then(|| format!("is the way to {} too", others.join(", ")))
}

/// Tries the nearest folder that is there, before anybody is dialled, and leaves nothing in it.
fn can_be_written(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let whole = std::path::absolute(path)?;
    match whole.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(folder) => tempfile::tempfile_in(folder).map(drop),
        None => Ok(()),
    }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |source| CliError::new(Exit::StepFailed, Unwritable { path: path.to_owned(), source })
}

/// Replaces the file at once or not at all; readable by its owner alone from the first byte. A link stays one.
fn write(path: &Path, text: &Secret) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let private = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".rsadm-").permissions(private).tempfile_in(folder)?;
    file.write_all(text.expose())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
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

#[derive(Debug, thiserror::Error)]
#[error("could not write {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "clusters: [{name: lab, cluster: {server: https://m1:6443}}]\n";
    const BOTH: &str = "clusters:\n- {name: lab, cluster: {server: https://m1:6443}}\n\
        - {name: dev, cluster: {server: https://d:6443}}\n";

    #[test]
    fn only_the_way_to_this_cluster_is_replaced_unasked() {
        for (text, found) in [
            ("", None),
            (OURS, None),
            (BOTH, Some("is the way to dev too")),
            ("- a\n- list\n", Some("is no kubeconfig")),
        ] {
            assert_eq!(others(text, "lab").as_deref(), found, "{text:?}");
        }
    }

    #[test]
    fn a_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config");
        for text in ["first, and longer", "second"] {
            write(&path, &Secret::new(text)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, &Secret::new("new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn servers_are_https() {
        assert_eq!(server_url("https://lb:6443/").as_deref(), Ok("https://lb:6443"));
        for text in ["lb:6443", "http://lb", "https://", "https:///x", "https://a b"] {
            assert!(server_url(text).is_err(), "{text}");
        }
    }
}
