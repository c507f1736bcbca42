//! What must never be shown: collected from every file that is written, searched for in everything else.

use std::collections::BTreeSet;

/// Pieces of secrets, each long enough to be found only where it does not belong.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Takes the secret parts of a file over: private keys, keys in kubeconfigs, the encryption key.
    pub(super) fn take(&mut self, path: &str, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let mut in_key = false;
        for line in text.lines() {
            if line.starts_with("-----") {
                in_key = line.contains("BEGIN") && line.contains("PRIVATE KEY");
            } else if in_key && line.len() >= 20 {
                self.0.insert(line.into());
            }
            for field in ["client-key-data:", "secret:", "token:", "password:"] {
                let value = line.trim().trim_start_matches("- ").strip_prefix(field).map(str::trim);
                self.0.extend(value.filter(|v| v.len() >= 16 && !path.contains("rsadm-")).map(str::to_owned));
            }
        }
    }

    /// The first secret that a text shows.
    pub fn in_text<'a>(&'a self, text: &str) -> Option<&'a str> {
        self.0.iter().map(String::as_str).find(|secret| text.contains(secret))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where none was written yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
