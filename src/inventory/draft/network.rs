//! `network`: the plugin and the subnets.

use std::path::Path as FsPath;

use ipnet::Ipv4Net;

use crate::inventory::{
    problem::{Fault, quote},
    read::{Field, Refused, Section, choice_without, of_text, text},
    settings::{Network, NetworkPlugin},
    syntax,
};

use super::file_path;

/// The network as far as it could be read; a plugin or subnet that could not is missing, so that nothing is compared with it.
pub(in crate::inventory) struct NetworkDraft {
    /// Keys of subnets that the file has; what is wrong with another is not to be mended there.
    pub(in crate::inventory) given: Vec<&'static str>,
    pub(in crate::inventory) plugin: Option<NetworkPlugin>,
    pub(in crate::inventory) pod_subnet: Option<Ipv4Net>,
    pub(in crate::inventory) service_subnet: Option<Ipv4Net>,
    pub(in crate::inventory) cluster_domain: String,
}

impl NetworkDraft {
    /// The network, where plugin and subnets could be read.
    pub(in crate::inventory) fn finish(self) -> Option<Network> {
        Some(Network {
            plugin: self.plugin?,
            pod_subnet: self.pod_subnet?,
            service_subnet: self.service_subnet?,
            cluster_domain: self.cluster_domain,
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Plugin {
    Bridge,
    Manifests,
    None,
}

pub(super) fn read(section: Section<'_>, home: Option<&FsPath>) -> NetworkDraft {
    let subnet = |key, default: &str| match section.has(key) {
        true => section.optional(key, of_text(syntax::subnet)),
        false => default.parse().ok(),
    };
    let network = NetworkDraft {
        given: ["pod_subnet", "service_subnet"].into_iter().filter(|key| section.has(key)).collect(),
        plugin: plugin(&section, home),
        pod_subnet: subnet("pod_subnet", "10.244.0.0/16"),
        service_subnet: subnet("service_subnet", "10.96.0.0/12"),
        cluster_domain: section
            .optional("cluster_domain", of_text(syntax::dns_name))
            .unwrap_or_else(|| "cluster.local".to_owned()),
    };
    section.finish();
    network
}

fn plugin(section: &Section<'_>, home: Option<&FsPath>) -> Option<NetworkPlugin> {
    const WORDS: &[(&str, Plugin)] =
        &[("bridge", Plugin::Bridge), ("manifests", Plugin::Manifests), ("none", Plugin::None)];
    const REFUSED: &[Refused] =
        &[("calico", BROUGHT, HOW), ("cilium", BROUGHT, HOW), ("flannel", BROUGHT, HOW)];
    const BROUGHT: &str = "comes by manifests of its own";
    const HOW: &str = "plugin: manifests, with manifests: [URL], or files, of what installs it";
    let plugin = match section.has("plugin") {
        true => section.optional("plugin", choice_without(WORDS, REFUSED)),
        false => Some(Plugin::Bridge),
    };
    let list = section.field("manifests");
    let sources: Vec<String> =
        list.iter().flat_map(Field::items).filter_map(|item| source(&item, home)).collect();
    let path = section.path.key("manifests");
    Some(match (plugin?, list) {
        (Plugin::Manifests, None) => {
            section.findings.error(
                &path,
                "missing",
                "the files or URLs that bring the network, for example flannel's",
            );
            NetworkPlugin::Manifests(Vec::new())
        }
        (Plugin::Manifests, Some(list)) => {
            if list.value.as_array().is_some_and(Vec::is_empty) {
                section.findings.error(&path, "no manifest", "the files or URLs that bring the network");
            }
            NetworkPlugin::Manifests(sources)
        }
        (other, list) => {
            if list.is_some() {
                section.findings.key(
                    &path,
                    "only read with `plugin: manifests`",
                    "set the plugin, or remove this key",
                );
            }
            if other == Plugin::Bridge { NetworkPlugin::Bridge } else { NetworkPlugin::None }
        }
    })
}

/// A manifest's URL or file.
fn source(item: &Field<'_>, home: Option<&FsPath>) -> Option<String> {
    let is_url = item.value.as_str().is_some_and(|text| text.contains("://"));
    if is_url {
        return item.parse(|value| {
            let url = text(value)?;
            syntax::url(url).and_then(|_| reject_slash(url))
        });
    }
    let file = item.parse(file_path(home))?;
    item.findings().file(&item.path, &file, "the path of a manifest, or its URL");
    Some(file.to_string_lossy().into_owned())
}

fn reject_slash(source: &str) -> Result<String, Fault> {
    if source.ends_with('/') {
        return Err(Fault::new(format!("{} names a folder", quote(source)), "the URL of one manifest"));
    }
    Ok(source.to_owned())
}
