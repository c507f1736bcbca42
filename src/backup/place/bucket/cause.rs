//! What a store says of a failure, beside what was to be done with which file of which bucket: that is named already, and is not
//! named again in each of the library's own words for it.

use crate::line::chain;

/// A failure of the store's.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(super) struct Cause {
    said: String,
    /// True where there is no such file.
    pub(super) is_missing: bool,
}

impl From<object_store::Error> for Cause {
    fn from(error: object_store::Error) -> Self {
        let is_missing = matches!(error, object_store::Error::NotFound { .. });
        Self { said: said(&chain(&error)), is_missing }
    }
}

/// Of a URL the endpoint is what the name of the bucket does not tell: `PUT http://10.0.0.9:9000 in 30s`.
fn said(chain: &str) -> String {
    let generic = chain.strip_prefix("Generic ").and_then(|rest| rest.split_once(" error: "));
    let text = generic.map_or(chain, |(_, rest)| rest).replace("Error performing ", "");
    text.split(' ').map(endpoint).collect::<Vec<_>>().join(" ")
}

fn endpoint(word: &str) -> &str {
    let Some(host) = ["http://", "https://"].iter().find_map(|scheme| word.strip_prefix(scheme)) else {
        return word;
    };
    let path = host.find(['/', '?']).map_or(0, |at| host.len() - at);
    &word[..word.len() - path]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_and_file_are_not_named_again() {
        for (chain, expected) in [
            (
                "Generic S3 error: Error performing PUT http://10.0.0.9:9000/b/prod/a.db?partNumber=1&uploadId=x in 30s, after 3 \
                 retries - HTTP error: error sending request: operation timed out",
                "PUT http://10.0.0.9:9000 in 30s, after 3 retries - HTTP error: error sending request: operation timed out",
            ),
            (
                "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s",
                "PUT http://169.254.169.254 in 1s",
            ),
            ("Generic GCS error: no key", "no key"),
            ("Account must be specified", "Account must be specified"),
        ] {
            assert_eq!(said(chain), expected);
        }
    }
}
