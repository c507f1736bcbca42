//! `kube_apiserver.authentication`: who may log in beside those who have a certificate or a token of the cluster.
//!
//! The entries are those of Kubernetes' AuthenticationConfiguration and go there as they are. An API server starts with no
//! entry that it does not understand, so all that can be said of one without its expressions is said here
//! (apiserver, `apis/apiserver/validation`).

use serde_json::{Map, Value};

use crate::inventory::{
    problem::{Fault, quote},
    read::{Field, Section, check_numbers, owned, text},
};

/// The fields that are laid over the API servers' file.
pub(super) fn read(section: Section<'_>) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(jwt) = section.field("jwt") {
        let entries = jwt.items();
        entries.iter().for_each(check);
        check_numbers(&jwt.path, jwt.value, jwt.findings());
        if !entries.is_empty() {
            fields.insert("jwt".to_owned(), jwt.value.clone());
        }
    }
    section.finish();
    fields
}

fn check(entry: &Field<'_>) {
    let entry = entry.section();
    let issuer = entry.section("issuer");
    issuer.required("url", "where tokens come from, as their claim iss has it", https);
    for key in ["discoveryURL", "certificateAuthority", "audienceMatchPolicy", "egressSelectorType"] {
        issuer.has(key);
    }
    let path = issuer.path.key("audiences");
    let audiences = issuer.list("audiences", owned).unwrap_or_default();
    if audiences.is_empty() {
        issuer.findings.error(
            &path,
            "names nobody",
            "for whom tokens are issued: the client's ID, such as [kubernetes]",
        );
    }
    if audiences.len() > 1 && issuer.field("audienceMatchPolicy").is_none_or(|f| f.value != "MatchAny") {
        let help = "set audienceMatchPolicy: MatchAny beside it";
        issuer.findings.error(&path, "several, and no word of which have to match", help);
    }
    issuer.finish();
    let mappings = entry.section("claimMappings");
    let help = "{claim: sub, prefix: \"oidc:\"}, or {expression: …}";
    if !mappings.has("username") {
        mappings.findings.error(&mappings.path.key("username"), "missing", help);
    }
    for name in ["username", "groups"] {
        let source = mappings.section(name);
        let [claim, expression, prefix] = ["claim", "expression", "prefix"].map(|key| source.has(key));
        if mappings.has(name) && (claim == expression || claim != prefix) {
            let message = "neither a claim with its prefix, which may be \"\", nor an expression alone";
            source.findings.error(&source.path, message, help);
        }
        source.finish();
    }
    mappings.has("uid");
    mappings.has("extra");
    mappings.finish();
    entry.has("claimValidationRules");
    entry.has("userValidationRules");
    entry.finish();
}

fn https(value: &Value) -> Result<String, Fault> {
    let url = text(value)?;
    let rest = url.strip_prefix("https://").unwrap_or_default();
    match rest.is_empty() || rest.contains(['?', '#', '@', ' ']) {
        true => Err(Fault::new(
            format!("{} is no https URL without user, query and fragment", quote(url)),
            "for example https://login.example.org",
        )),
        false => Ok(url.to_owned()),
    }
}
