//! The inventory: from a file to a valid [`Cluster`], or to everything that is wrong with it.
//!
//! `file` turns bytes into a document, with the place of every part from `locate`; `draft` and `hosts` read its keys
//! (through `read`, with the grammars of `syntax` and the ownership table of `flags`); `check` compares the values
//! with each other; [`Cluster`], with its `settings`, is what is left: valid by construction.

mod check;
mod cluster;
#[cfg(test)]
pub(crate) mod comparing;
mod draft;
mod file;
mod flags;
mod hosts;
mod locate;
mod problem;
mod read;
mod settings;
mod skeleton;
mod strays;
mod syntax;

use std::path::{Path as FsPath, PathBuf};

pub use cluster::*;
pub use problem::{Problem, Problems, table};
pub use settings::*;
pub use skeleton::{HostArgument, NoHost, remark, skeleton};

use locate::Place;
use problem::{Fault, Findings, Located, Purpose};

/// What lets a cluster of control planes alone take ordinary pods.
const TAKES_PODS: &str = "the role worker on some of them, hosts with that role alone, or taints: []";

/// An inventory that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is wanted.
    pub cluster: Cluster,
    /// What works but is unwise, in the order of the file.
    pub warnings: Vec<Problem>,
    /// Files of the operator's machine that it names, each with the warning that holds where it is missing. Nothing here
    /// looks: a file may be read where it is not used.
    pub files: Vec<(PathBuf, Problem)>,
}

impl Loaded {
    /// The warnings with those of files that `is_there` does not find.
    #[must_use]
    pub fn with_missing(mut self, is_there: impl Fn(&FsPath) -> bool) -> Self {
        let missing =
            self.files.iter().filter(|(file, _)| !is_there(file)).map(|(_, warning)| warning.clone());
        self.warnings.extend(missing);
        self.warnings.sort_by_key(|warning| (warning.line, warning.column));
        self
    }
}

/// Reads an inventory. `file_name` is what the operator calls it, and `home` what `~` in paths stands for.
///
/// # Errors
/// All problems of the file at once.
pub fn load(text: &str, file_name: &str, home: Option<&FsPath>) -> Result<Loaded, Problems> {
    load_bytes(text.as_bytes(), file_name, home)
}

/// The same for bytes that may not be text.
///
/// # Errors
/// All problems of the file at once.
pub fn load_bytes(bytes: &[u8], file_name: &str, home: Option<&FsPath>) -> Result<Loaded, Problems> {
    load_parts(bytes, home, Purpose::Build)
        .map_err(|problems| Problems { file: file_name.to_owned(), problems })
}

/// The same for a cluster that is there, whoever built it: what none should be built with is a warning.
///
/// # Errors
/// All problems of the file at once.
pub fn load_built(bytes: &[u8], file_name: &str, home: Option<&FsPath>) -> Result<Loaded, Problems> {
    load_parts(bytes, home, Purpose::Keep)
        .map_err(|problems| Problems { file: file_name.to_owned(), problems })
}

/// The same for hosts that are taken down: they may be some of a cluster, such as a worker alone.
///
/// # Errors
/// All problems of the file at once.
pub fn load_part(bytes: &[u8], file_name: &str, home: Option<&FsPath>) -> Result<Loaded, Problems> {
    load_parts(bytes, home, Purpose::TakeDown)
        .map_err(|problems| Problems { file: file_name.to_owned(), problems })
}

fn load_parts(bytes: &[u8], home: Option<&FsPath>, purpose: Purpose) -> Result<Loaded, Vec<Problem>> {
    let document = file::parse(bytes).map_err(|problem| vec![problem])?;
    let findings = Findings::default();
    let draft = draft::read(&document.value, home, &findings);
    check::check(&draft, !document.places.are_twice("hosts"), &findings);
    let Located { errors, warnings, files } = findings.locate(&document.places, purpose);
    if !errors.is_empty() {
        return Err(errors);
    }
    // Whatever is missing from a draft has been reported; should that ever fail, this is better than a panic.
    let unreadable = || Fault::new("the inventory could not be read", "please report this file as a bug");
    let cluster = check::finish(draft)
        .ok_or_else(|| vec![problem::problem(Place::START, String::new(), unreadable())])?;
    Ok(Loaded { cluster, warnings, files })
}

#[cfg(test)]
mod tests;
