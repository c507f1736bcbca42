//! Inventories: those of the repository, changed as an operator would.

use std::{fs, path::Path};

use serde_yaml::Value;

use super::Fault;

/// An inventory.
#[derive(Clone)]
pub struct Inventory {
    name: String,
    file: Value,
}

impl Inventory {
    /// That of the repository with this path.
    pub fn load(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".yaml").to_owned();
        Self { name, file: serde_yaml::from_str(&text).expect(path) }
    }

    /// An example of `inventories/` on nodes of the lab, which are where its hosts are, in the lab's own network. What lab nodes
    /// need besides is what `inventories/lab.yaml` gives them.
    pub fn example(path: &str) -> Self {
        let (mut example, lab) = (Self::load(path), Self::load("inventories/lab.yaml"));
        let mut settings = vec!["artifacts", "container_runtime", "kubelet"];
        if !example.hosts("control-plane").is_empty() {
            settings.push("kube_proxy");
        }
        for key in settings {
            example.file[key] = lab.file[key].clone();
        }
        for host in example.file["hosts"].as_sequence_mut().expect("hosts") {
            let address = text(&host["address"]);
            host["address"] = address.replacen("10.0.0.", "10.77.0.", 1).into();
        }
        example.with("ssh.key_path", &text(&lab.file["ssh"]["key_path"]))
    }

    /// The same as another file, beside this one.
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), file: self.file.clone() }
    }

    /// The same with one value set, at keys separated by dots; `hosts.w1` is the host of that name. The value is YAML.
    pub fn with(&self, path: &str, value: &str) -> Self {
        let mut changed = self.clone();
        let mut place = &mut changed.file;
        for key in path.split('.') {
            place = match place {
                Value::Sequence(hosts) => {
                    hosts.iter_mut().find(|host| host["name"] == key).expect("no such host")
                }
                other => {
                    let map = match other {
                        Value::Mapping(map) => map,
                        null => {
                            *null = Value::Mapping(serde_yaml::Mapping::new());
                            null.as_mapping_mut().expect("just made")
                        }
                    };
                    map.entry(key.into()).or_insert(Value::Null)
                }
            };
        }
        *place = serde_yaml::from_str(value).expect(value);
        changed
    }

    /// The same with an etcd that bears more: on a machine with other labs a heartbeat that is late would be taken for a leader that
    /// is gone, and who leads is what some checks are about.
    pub fn patient(&self) -> Self {
        self.with("etcd.heartbeat_interval", "300ms").with("etcd.election_timeout", "3s")
    }

    /// The same with these hosts only.
    pub fn with_hosts(&self, names: &[&str]) -> Self {
        let mut changed = self.clone();
        let hosts = changed.file["hosts"].as_sequence_mut().expect("hosts");
        hosts.retain(|host| names.iter().any(|name| host["name"] == *name));
        assert_eq!(hosts.len(), names.len(), "{names:?} are not all in {}", self.name);
        changed
    }

    /// The same with one host more, in YAML.
    pub fn with_host(&self, host: &str) -> Self {
        let mut changed = self.clone();
        let hosts = changed.file["hosts"].as_sequence_mut().expect("hosts");
        hosts.push(serde_yaml::from_str(host).expect(host));
        changed
    }

    /// Names of the hosts with a role.
    pub fn hosts(&self, role: &str) -> Vec<&str> {
        let hosts = self.file["hosts"].as_sequence().expect("hosts").iter();
        let has =
            |host: &&Value| host["roles"].as_sequence().is_some_and(|roles| roles.iter().any(|r| r == role));
        hosts.filter(has).filter_map(|host| host["name"].as_str()).collect()
    }

    /// Names of all hosts.
    pub fn all_hosts(&self) -> Vec<&str> {
        self.file["hosts"]
            .as_sequence()
            .expect("hosts")
            .iter()
            .filter_map(|host| host["name"].as_str())
            .collect()
    }

    /// Writes it into a folder: the file's path.
    pub fn save(&self, folder: &Path) -> Result<String, Fault> {
        let path = folder.join(format!("{}.yaml", self.name));
        fs::write(&path, serde_yaml::to_string(&self.file)?)?;
        Ok(path.display().to_string())
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn an_example_is_on_nodes_of_the_lab() {
    let example = Inventory::example("inventories/external-etcd.yaml");
    assert_eq!(example.all_hosts(), ["e1", "e2", "e3", "m1", "m2", "w1"]);
    let addresses = example.file["hosts"].as_sequence().unwrap().iter().map(|host| text(&host["address"]));
    assert!(addresses.into_iter().all(|address| address.starts_with("10.77.0.")));
    assert_eq!(text(&example.file["artifacts"]["base_url"]), "http://10.77.0.1:8080");
    assert_eq!(text(&example.file["ssh"]["user"]), "ops");
}

#[test]
fn inventories_are_changed_in_place() {
    let lab = Inventory::load("inventories/lab.yaml");
    assert_eq!(lab.all_hosts(), ["m1", "m2", "m3", "w1", "w2"]);
    let changed =
        lab.with("hosts.w1.labels.zone", "a").with("etcd.extra_args", "{a: b}").with_hosts(&["m1", "w1"]);
    assert_eq!(changed.hosts("worker"), ["w1"]);
    assert_eq!(changed.file["hosts"][1]["labels"]["zone"], "a");
    assert_eq!(changed.file["etcd"]["extra_args"]["a"], "b");
    assert_eq!(lab.file["etcd"], Value::Null);
    assert_eq!(lab.with_host("{name: e4, roles: [etcd]}").hosts("etcd"), ["m1", "m2", "m3", "e4"]);
}
