use super::*;
use crate::inventory::{Loaded, Problems, Role, load};

fn arguments(text: &str) -> Vec<HostArgument> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|e| panic!("{word}: {e}"))).collect()
}

fn load_skeleton(text: &str) -> Result<Loaded, Problems> {
    load(&skeleton(&arguments(text)), "inventory.yaml", None)
}

/// `name(roles)` of each host, the user and port where they are not root and 22.
fn summary(loaded: &Loaded) -> String {
    let host = |node: &crate::inventory::Node| {
        let roles: String = [(Role::ControlPlane, 'c'), (Role::Etcd, 'e'), (Role::Worker, 'w')]
            .iter()
            .filter(|(role, _)| node.is(*role))
            .map(|(_, letter)| *letter)
            .collect();
        format!("{}@{}:{}({roles})", node.ssh.user, node.name, node.ssh.port)
    };
    loaded.cluster.nodes.iter().map(host).collect::<Vec<_>>().join(" ")
}

#[test]
fn skeletons_load_without_problems() {
    let table = [
        ("10.0.0.1", "root@m1:22(cew)"),
        ("ops@10.0.0.1 ops@10.0.0.2", "ops@m1:22(ce) ops@w1:22(w)"),
        (
            "a=10.0.0.1 m1=10.0.0.2 10.0.0.3 10.0.0.4",
            "root@a:22(ce) root@m1:22(ce) root@m2:22(ce) root@w1:22(w)",
        ),
        ("ops@10.0.0.1 ops@10.0.0.2 admin@10.0.0.3:2222", "ops@m1:22(ce) ops@m2:22(ce) admin@m3:2222(ce)"),
        ("w1=10.0.0.1 10.0.0.2", "root@w1:22(ce) root@w2:22(w)"),
        ("null@10.0.0.1", "null@m1:22(cew)"),
        ("1=10.0.0.1 1e3=true@10.0.0.2", "true@1:22(ce) true@1e3:22(w)"),
        ("0x1f=ops@10.0.0.1 null=corp\\ops@10.0.0.2", "ops@0x1f:22(ce) corp\\ops@null:22(w)"),
    ];
    for (arguments, expected) in table {
        let loaded = load_skeleton(arguments).unwrap_or_else(|e| panic!("{arguments}: {e}"));
        assert_eq!(summary(&loaded), expected, "{arguments}");
        // Three control planes are told that no host takes pods, in the file as well.
        let hosts = arguments.split(' ').count();
        assert_eq!(loaded.warnings.len(), usize::from(hosts == 3), "{arguments}: {:?}", loaded.warnings);
        let told = remark(hosts).is_none_or(|(what, _)| skeleton(&self::arguments(arguments)).contains(what));
        assert!(told, "{arguments}");
    }
}

/// All of it: what is commented out is there to be found.
#[test]
fn one_host() {
    insta::assert_snapshot!(skeleton(&arguments("ops@10.0.0.1")), @"
    # An rsadm cluster. Only cluster_name, kubernetes_version and hosts are needed; keys that are commented out show their
    # defaults. Check it with `rsadm validate`, see what would happen with `rsadm plan`, do it with `rsadm up`.
    cluster_name: prod-3e2a                # of no other cluster of yours: by it rsadm knows whose a host is
    kubernetes_version: v1.37.2

    ssh:
      user: ops
      # key_path: ~/.ssh/id_ed25519        # default: what ssh would use
      # become: true                       # sudo; default for every user but root
      # host_key_check: strict             # strict, accept-new: trust a host on first contact
      # bastion: {address: jump.example.org, user: ops}
      control_persist: 60s                 # connections wait that long for your next command; default: 0, none does

    # one control plane with one etcd member: where it fails, the cluster stands still
    # → three hosts or more make it highly available
    hosts:
      - name: m1
        address: 10.0.0.1
        roles: [control-plane, etcd, worker]

    # api:
    #   host: k8s.example.org              # what clients dial; default: the first control plane
    #   port: 6443
    #   alternative_names: []              # more names for the API's certificate

    # load_balancer:
    #   type: node-local                   # node-local: haproxy on each worker; external: yours, at api.host

    # network:
    #   plugin: bridge                     # bridge: hosts on one L2 network; manifests: flannel, Calico, …; none
    #   pod_subnet: 10.244.0.0/16
    #   service_subnet: 10.96.0.0/12
    #   cluster_domain: cluster.local

    # etcd:
    #   backup:                            # none by default: without it nobody takes snapshots of etcd
    #     interval: 6h
    #     retention: 28                    # how many are kept; or for how long, such as 14d
    #     target: s3://backups/prod        # s3://, gs://, az://; a folder of the etcd hosts dies with them
    #     credentials: ~/s3.env            # AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, a line each
    #     recipient:                       # age1…: encrypts them to this age key, with the keys that fresh hosts need
    ");
}

#[test]
fn many_hosts() {
    let hosts = arguments("ops@10.0.0.1 ops@10.0.0.2 db=ops@10.0.0.3:2222 root@10.0.0.4 ops@w.example.org");
    insta::assert_snapshot!(skeleton(&hosts), @"
    # An rsadm cluster. Only cluster_name, kubernetes_version and hosts are needed; keys that are commented out show their
    # defaults. Check it with `rsadm validate`, see what would happen with `rsadm plan`, do it with `rsadm up`.
    cluster_name: prod-82a8                # of no other cluster of yours: by it rsadm knows whose a host is
    kubernetes_version: v1.37.2

    ssh:
      user: ops
      # key_path: ~/.ssh/id_ed25519        # default: what ssh would use
      # become: true                       # sudo; default for every user but root
      # host_key_check: strict             # strict, accept-new: trust a host on first contact
      # bastion: {address: jump.example.org, user: ops}
      control_persist: 60s                 # connections wait that long for your next command; default: 0, none does

    hosts:
      - name: m1
        address: 10.0.0.1
        roles: [control-plane, etcd]
      - name: m2
        address: 10.0.0.2
        roles: [control-plane, etcd]
      - name: db
        address: 10.0.0.3
        roles: [control-plane, etcd]
        port: 2222
      - name: w1
        address: 10.0.0.4
        roles: [worker]
        user: root
      - name: w
        address: w.example.org
        roles: [worker]
        internal_address:                  # to be filled in: the IPv4 address by which the other hosts reach it

    # api:
    #   host: k8s.example.org              # what clients dial; default: the first control plane
    #   port: 6443
    #   alternative_names: []              # more names for the API's certificate

    # load_balancer:
    #   type: node-local                   # node-local: haproxy on each worker; external: yours, at api.host

    # network:
    #   plugin: bridge                     # bridge: hosts on one L2 network; manifests: flannel, Calico, …; none
    #   pod_subnet: 10.244.0.0/16
    #   service_subnet: 10.96.0.0/12
    #   cluster_domain: cluster.local

    # etcd:
    #   backup:                            # none by default: without it nobody takes snapshots of etcd
    #     interval: 6h
    #     retention: 28                    # how many are kept; or for how long, such as 14d
    #     target: s3://backups/prod        # s3://, gs://, az://; a folder of the etcd hosts dies with them
    #     credentials: ~/s3.env            # AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, a line each
    #     recipient:                       # age1…: encrypts them to this age key, with the keys that fresh hosts need
    ");
}

#[test]
fn clusters_of_other_hosts_have_other_names() {
    let name = |hosts: &str| load_skeleton(hosts).unwrap().cluster.name;
    assert_eq!(name("10.0.0.1 10.0.0.2"), name("ops@10.0.0.1 w1=10.0.0.2"));
    for other in ["10.0.0.1", "10.0.0.1 10.0.0.3", "10.0.0.1 10.0.0.2:2222"] {
        assert_ne!(name("10.0.0.1 10.0.0.2"), name(other), "{other}");
    }
}

#[test]
fn commented_keys_are_keys() {
    let text = skeleton(&arguments("10.0.0.1"));
    // Every commented-out line that is not prose becomes a key, each at the place where it stands.
    let is_key = |line: &str| {
        line.trim_start()
            .trim_start_matches("# ")
            .trim_start()
            .split_once(':')
            .is_some_and(|(k, _)| !k.contains(' '))
    };
    let uncommented: String = text
        .lines()
        .map(|line| match line.split_once("# ") {
            Some((indent, rest)) if indent.trim().is_empty() && is_key(line) => format!("{indent}{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let uncommented = uncommented.replace("type: node-local", "type: none");
    load(&uncommented, "inventory.yaml", Some(std::path::Path::new("/home/ops")))
        .unwrap_or_else(|e| panic!("{e}\n{uncommented}"));
}

#[test]
fn names_are_taken_from_dns_names_and_internal_addresses_asked_for() {
    let problems = load_skeleton("a.example.org b.example.org").unwrap_err();
    assert_eq!(problems.problems.len(), 2, "{problems}");
    let text = skeleton(&arguments("a.example.org b.example.org"));
    assert!(text.contains("- name: a\n") && text.contains("- name: b\n"), "{text}");
    let aliases = skeleton(&arguments("Prod-A prod_b"));
    for line in ["name: prod-a\n", "address: Prod-A\n", "name: m1\n", "address: prod_b\n"] {
        assert!(aliases.contains(line) || aliases.contains(&line.replace("m1", "w1")), "{line} {aliases}");
    }
    for problem in problems.problems {
        let line = text.lines().nth(problem.line - 1).unwrap();
        assert!(line.trim().starts_with("internal_address:") && line.contains("# to be filled in"), "{line}");
    }
}

#[test]
fn arguments_that_name_no_host_are_refused() {
    for text in [
        "",
        "=10.0.0.1",
        "@10.0.0.1",
        "A=10.0.0.1",
        "10.0.0.1:x",
        "10.0.0.1:70000",
        "10.0.0.1:0",
        "a b",
        "-o=10.0.0.1",
        "m1=",
        "10.0.0.256",
        "prod.yaml",
    ] {
        assert!(text.parse::<HostArgument>().is_err(), "{text:?}");
    }
    for (text, address, port) in [
        ("m1=ops@fd00::1", "fd00::1", None),
        ("ops@[2001:db8::1]", "2001:db8::1", None),
        ("m1=[2001:db8::1]:2222", "2001:db8::1", Some(2222)),
    ] {
        let v6: HostArgument = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((v6.address.as_str(), v6.port), (address, port), "{text}");
    }
    for (text, said) in [
        ("10.0.0.1,10.0.0.2", "separated by spaces"),
        ("ssh://ops@10.0.0.1", "ops@10.0.0.1 alone"),
        ("https://10.0.0.1/", "; 10.0.0.1 alone"),
        ("[10.0.0.1]", "is neither an address nor a DNS name"),
    ] {
        let why = text.parse::<HostArgument>().unwrap_err().to_string();
        assert!(why.contains(said), "{text}: {why}");
    }
}
