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
        let chain = chain(&error);
        let said = refused(&chain).unwrap_or_else(|| said(&chain));
        Self { said, is_missing }
    }
}

/// What a store of S3's says to a request that it does not trust (Amazon S3, "Error responses"), by what the operator has to look
/// at: all of it else is XML.
const REFUSED: [(&str, &str); 5] = [
    (
        "SignatureDoesNotMatch",
        "the secret key is not that of the access key: AWS_SECRET_ACCESS_KEY, whole and without quotes or spaces around it",
    ),
    (
        "InvalidAccessKeyId",
        "the store knows no such access key: AWS_ACCESS_KEY_ID, and whether the endpoint is that of its store",
    ),
    (
        "RequestTimeTooSkewed",
        "the store's clock and that of who asks are too far apart: compare `date -u` with the true time",
    ),
    ("ExpiredToken", "the credentials have expired: AWS_SESSION_TOKEN and the two keys that go with it"),
    (
        "InvalidToken",
        "the store does not know the session: AWS_SESSION_TOKEN and the two keys that go with it",
    ),
];

fn refused(chain: &str) -> Option<String> {
    let code = chain.split("<Code>").nth(1)?.split("</Code>").next()?;
    let (_, means) = REFUSED.iter().find(|(known, _)| *known == code)?;
    Some(format!("{means} ({code})"))
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
    fn credentials_that_are_not_taken_are_told_in_a_sentence() {
        let answer = |code: &str| {
            format!(
                "Error performing GET http://10.0.0.9:9000/b in 1s - Server returned non-2xx status code: 403 Forbidden: \
                     <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>x</Message></Error>"
            )
        };
        for (code, _) in REFUSED {
            let told = refused(&answer(code)).unwrap();
            assert!(told.ends_with(&format!("({code})")) && !told.contains('<'), "{told}");
        }
        assert_eq!(refused(&answer("AccessDenied")), None, "what it is denied for is in its message");
        assert_eq!(refused("no answer"), None);
    }

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
